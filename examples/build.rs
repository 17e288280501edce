//! Compiles the service of the gRPC example, without `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = protox::compile(["src/grpc/stock.proto"], ["src/grpc"])?;
    tonic_prost_build::compile_fds(files)?;
    Ok(())
}
