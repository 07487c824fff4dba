# One image for every part: the command decides which. It holds what `make image`
# puts into bin/image (the static binary, and the certificates of public
# authorities), so no base image is needed, and any builder will do.
FROM scratch
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Holdline" \
      org.opencontainers.image.description="A store-and-forward gateway for Connect and gRPC services" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY . /
USER 65534:65534
# Every part listens here, and is asked for its health here.
ENV HOLDLINE_LISTEN=:8080
EXPOSE 8080
# Swarm shows a container to others once it is healthy, which for a MOM is when
# it has its Redis: that may take a while, and is no reason to begin again.
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 CMD ["/holdline", "healthcheck"]
ENTRYPOINT ["/holdline"]
CMD ["--help"]
