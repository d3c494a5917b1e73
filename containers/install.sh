#!/bin/sh
# Install the app into /opt/imunity and its template into /opt/templateflow. Dockerfile and Singularity.def both run this.
#   SOURCE       folder with pyproject.toml, constraints.txt, imunity_bids/
#   TORCH        what pip installs as torch: a version, or a build of your own choice with its index
#   TEMPLATES    TemplateFlow templates to put in, separated by spaces; those in SOURCE/containers/templateflow need no network
set -eu
: "${SOURCE:?}" "${TORCH:=torch==2.13.0}" "${TEMPLATES:=MNI152NLin2009cAsym}"
export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1

python3 -m venv /opt/imunity
# shellcheck disable=SC2086  # TORCH may be several words
/opt/imunity/bin/pip install -q $TORCH
/opt/imunity/bin/pip install -q --use-pep517 -c "$SOURCE/constraints.txt" "${SOURCE}[train,synthstrip]"

mkdir -p /opt/templateflow
cp -R "$SOURCE"/containers/templateflow/. /opt/templateflow/
for name in $TEMPLATES; do
    TEMPLATEFLOW_HOME=/opt/templateflow /opt/imunity/bin/python -c \
        "from imunity_bids.image.template import load_template; load_template('$name')"
done

# what nobody needs at run time: the installer, headers and static libraries of torch, test suites of packages
site=$(/opt/imunity/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
/opt/imunity/bin/pip uninstall -q -y pip setuptools
rm -rf "$site"/torch/include "$site"/torch/test "$site"/torch/share
find "$site" -name '*.a' -delete
find "$site" -type d -name tests -not -path '*/torch/*' -not -path '*/numpy/*' -prune -exec rm -rf {} +
/opt/imunity/bin/python -m compileall -q -j 0 "$site" >/dev/null || true
chmod -R a+rX /opt/imunity /opt/templateflow
