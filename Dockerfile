# The collector as a static binary in an image of nothing else: docker build --tag watchbell .
FROM rust:1.95-alpine AS build
RUN apk add --no-cache ca-certificates gcc make musl-dev tzdata
WORKDIR /source
COPY . .
RUN sh image/build.sh /image

FROM scratch
COPY --from=build --chown=65532:65532 /image /
ENV WATCHBELL_CONFIG=/etc/watchbell/config.yaml
USER 65532:65532
WORKDIR /var/lib/watchbell
VOLUME /var/lib/watchbell
EXPOSE 4317 4318 9430
ENTRYPOINT ["/watchbell"]
CMD ["run"]
