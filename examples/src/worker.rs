//! A worker that keeps its own log: JSON in files that rotate by size and by day, two weeks of them, compressed; errors on stderr, too. What a
//! collector that is away does not take waits on disk.
//!
//! `cargo run -p watchbell-examples --bin worker -- /tmp/worker 1000`

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use tracing::{error, info, info_span};
use watchbell::sink::file::{Compression, File, Rotation, Zone};
use watchbell::sink::{Format, Sink};
use watchbell::spool::Spool;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap_or_else(|| "worker".to_owned());
    let jobs: u32 = arguments.next().map_or(Ok(100), |text| text.parse())?;

    let _guard = watchbell::builder()
        .service_name("worker")
        .sink(Sink::stderr().levels("error").format(Format::Compact))
        .sink(Sink::file(log_file(Path::new(&folder))).levels("debug").format(Format::Json))
        .spool(Spool::in_dir(Path::new(&folder).join("spool")))
        .init()?;
    (1..=jobs).for_each(work);
    Ok(())
}

fn log_file(folder: &Path) -> File {
    File::new(folder.join("worker.log"))
        .rotate_at_bytes(64 << 10)
        .rotate(Rotation::Daily { hour: 0, minute: 0 }, Zone::Local)
        .compress(Compression::Gzip)
        .keep_files(50)
        .keep_age(Duration::from_secs(14 * 24 * 60 * 60))
}

/// Each record says of which job it is, also those of functions that do not know it.
fn work(job: u32) {
    let _span = info_span!("job").entered();
    let _context = watchbell::context!(job).enter();
    info!("began");
    if job.is_multiple_of(100) {
        error!(attempts = 3, "gave up");
    }
    info!("ended");
}
