# One image with both commands: `dispatcher` by default, `agent` with --entrypoint agent.
# Static binaries, no shell, user 65532.

FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG TARGETOS TARGETARCH
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -buildvcs=false -ldflags='-s -w' -o /out/ ./cmd/dispatcher ./cmd/agent && \
    mkdir /out/data

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/dispatcher /out/agent /usr/local/bin/
# For `dispatcher run --embedded`: a volume here takes over the owner of the folder.
COPY --from=build --chown=65532:65532 /out/data /data
ENV COMFYHERD_STORE_DIR=/data
ENTRYPOINT ["dispatcher"]
CMD ["--help"]
