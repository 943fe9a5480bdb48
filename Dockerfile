# Tributary in a small image: docker build --tag tributary .
FROM rust:1.95.0-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package tributary --bin tributary \
    && cp target/release/tributary /usr/local/bin/tributary

FROM debian:bookworm-slim
# Certificates of the authorities and time zones: the newest that the distribution has.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates tzdata \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/tributary --shell /usr/sbin/nologin tributary \
    && install --directory --owner=tributary --group=tributary --mode=0750 /var/lib/tributary \
    && install --directory /etc/tributary
COPY --from=build /usr/local/bin/tributary /usr/local/bin/tributary
# State, key indexes and lakes in directories: what is to outlive a container.
ENV XDG_CACHE_HOME=/var/lib/tributary/cache
WORKDIR /var/lib/tributary
VOLUME /var/lib/tributary
USER 10001
# Needs `server:` in the file, at the port 8087.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["/usr/local/bin/tributary", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/tributary"]
CMD ["run", "/etc/tributary/tributary.yaml"]
