# The collector as a static binary in an image of nothing else: docker build --tag watchbell .
FROM rust:1.95-alpine AS build
RUN apk add --no-cache ca-certificates gcc make musl-dev tzdata
WORKDIR /source
COPY . .
# Alpine's target is musl: the binary is static.
RUN cargo build --release --locked --package watchbell-collector --bin watchbell
RUN mkdir -p /image/var/lib/watchbell /image/tmp && cp target/release/watchbell /image/watchbell

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /usr/share/zoneinfo /usr/share/zoneinfo
COPY --from=build --chown=65532:65532 /image /
USER 65532:65532
WORKDIR /var/lib/watchbell
VOLUME /var/lib/watchbell
EXPOSE 4317 4318 9430
ENTRYPOINT ["/watchbell"]
CMD ["run"]
