#!/usr/bin/env bash
# apptainer-up.sh FOLDER: Apptainer from Debian sid, unpacked into FOLDER and not installed, and FOLDER/as-user, which runs
# a command as the ordinary user $CIUSER with apptainer on the PATH. Bookworm has no package of it, and no setuid is needed.
set -euo pipefail
prefix=$(realpath -m "${1:?usage: apptainer-up.sh FOLDER}")
user=${CIUSER:-apptci}
apt-get install -y -qq --no-install-recommends squashfs-tools squashfuse fuse3 uidmap patchelf >/dev/null
mkdir -p "$prefix"/{debs,root} "$prefix"/apt/{etc/apt/apt.conf.d,etc/apt/preferences.d} \
    "$prefix"/apt/var/{lib/apt/lists/partial,cache/apt/archives/partial,lib/dpkg}
chmod 755 "$prefix"
touch "$prefix/apt/var/lib/dpkg/status"
mirror=$(awk '/^URIs:/{print $2; exit}' /etc/apt/sources.list.d/debian.sources)
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" >"$prefix/apt/etc/apt/sources.list"
sid=(-o Dir="$prefix/apt" -o Dir::State::status="$prefix/apt/var/lib/dpkg/status" -o Acquire::Languages=none
    -o APT::Sandbox::User=root -qq)
apt-get "${sid[@]}" update
(cd "$prefix/debs" && apt-get "${sid[@]}" download apptainer libc6 libseccomp2 libsqlite3-0)
for package in "$prefix"/debs/*.deb; do dpkg-deb -x "$package" "$prefix/root"; done

# it finds its configuration beside itself, and so does its starter, one level lower
root=$prefix/root
libraries=$root/usr/lib/x86_64-linux-gnu
ln -sfn ../etc "$root/usr/etc"
ln -sfn ../var "$root/usr/var"
ln -sfn ../../etc "$root/usr/lib/etc"
ln -sfn ../../var "$root/usr/lib/var"
for program in "$root/usr/bin/apptainer" "$libraries/apptainer/bin/starter"; do
    patchelf --set-interpreter "$libraries/ld-linux-x86-64.so.2" --set-rpath "$libraries" --force-rpath "$program"
done
ln -sfn apptainer "$root/usr/bin/singularity"

id "$user" >/dev/null 2>&1 || useradd -m -s /bin/bash "$user"
for file in /etc/subuid /etc/subgid; do
    grep -q "^$user:" "$file" 2>/dev/null || echo "$user:300000:65536" >>"$file"
done
[ -e "$prefix/fuse" ] || mknod -m 666 "$prefix/fuse" c 10 229
cat >"$prefix/as-user" <<SCRIPT
#!/usr/bin/env bash
# Run a command as $user, with apptainer on the PATH and a /dev/fuse that a user may open (in a mount namespace of its own).
exec unshare --mount --propagation private bash -c '
mount --bind $prefix/fuse /dev/fuse
exec setpriv --reuid $user --regid $user --init-groups env HOME=/home/$user USER=$user LOGNAME=$user \
    PATH=$root/usr/bin:/usr/sbin:/usr/bin:/sbin:/bin "\$@"' as-user "\$@"
SCRIPT
chmod +x "$prefix/as-user"
"$prefix/as-user" apptainer --version
