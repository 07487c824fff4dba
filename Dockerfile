# One image for every part: the command decides which.
FROM golang:1.26.8 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X holdline/cmd.version=${VERSION}" -o /holdline .

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /holdline /holdline
USER 65534:65534
ENTRYPOINT ["/holdline"]
CMD ["--help"]
