# ImUnity-BIDS. Build:  docker build -t imunity .
#   --build-arg TORCH="torch==2.13.0 --index-url URL"   another build of torch (CPU only, or for another CUDA)
#   --build-arg TEMPLATES="MNI152NLin2009cAsym …"       templates inside; offline: containers/templateflow/README.md
# Run:    docker run --rm -u "$(id -u):$(id -g)" -v BIDS:/data:ro -v OUT:/out imunity /data /out participant
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-venv ca-certificates \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY containers containers
COPY imunity_bids imunity_bids
ARG TORCH="torch==2.13.0"
ARG TEMPLATES="MNI152NLin2009cAsym"
RUN SOURCE=/src TORCH="${TORCH}" TEMPLATES="${TEMPLATES}" sh containers/install.sh

FROM ${BASE}
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/templateflow /opt/templateflow
COPY --from=build /opt/imunity /opt/imunity
ARG VERSION=0.3.0
LABEL org.opencontainers.image.title="ImUnity-BIDS" \
      org.opencontainers.image.description="BIDS App that harmonizes T1-weighted MRI across scanners" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/imunity/bin:$PATH \
    PYTHONNOUSERSITE=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TEMPLATEFLOW_HOME=/opt/templateflow \
    NO_ET=1 \
    IMUNITY_CONTAINER=imunity:${VERSION}
ENTRYPOINT ["imunity"]
CMD ["--help"]
