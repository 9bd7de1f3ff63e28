#!/bin/sh
# Puts Debian's g++ into FOLDER (bin: g++ and gcc; libraries: what else wheels take from the system, libgomp.so.1 for
# LightGBM), unless g++ is on PATH. Nothing of the system is changed: the packages are downloaded and unpacked, with lists
# of their own. Where there is no apt-get, or it cannot download, it ends with 1: the tests that need it say so.
#
#   compiler.sh FOLDER
set -eu
folder=$1
have() { command -v "$1" >/dev/null; }

have g++ && exit 0
[ -x "$folder/bin/g++" ] && exit 0
if ! have apt-get || ! have dpkg; then
    echo "g++ is not here, nor apt-get to fetch it: what has to be compiled will not be tested" >&2
    exit 1
fi
rm -rf "$folder"
mkdir -p "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial" "$folder/root"
cd "$folder/apt"
: > status # as if nothing were installed: everything that the compiler consists of comes
set -- -qq -o "Dir::State::lists=$PWD/lists" -o "Dir::Cache=$PWD/cache" -o Debug::NoLocking=1 \
    -o "APT::Sandbox::User=$(id -un)" -o "Dir::State::status=$PWD/status" -o APT::Install-Recommends=false
if ! apt-get "$@" update || ! apt-get "$@" install --download-only g++ libgomp1; then
    echo "g++ could not be downloaded: what has to be compiled will not be tested" >&2
    rm -rf "$folder"
    exit 1
fi
for package in cache/archives/*.deb; do dpkg -x "$package" "$folder/root"; done
cd "$folder"
rm -rf apt
# The compiler takes "root" for the root of the system. Libraries that the system has, libc above all, are the system's:
# those of two releases do not mix in one process.
if [ -d root/lib ] && [ ! -h root/lib ]; then
    cp -a root/lib/. root/usr/lib/
fi
rm -rf root/lib root/lib64
ln -s usr/lib root/lib
[ ! -e /lib64 ] || ln -s /lib64 root/lib64
for own in root/usr/lib/*-linux-gnu*; do
    libraries=$folder/$own
    for one in "/${own#root/usr/}"/*.so.*; do
        ln -sf "$one" "$own/"
    done
done
mkdir bin libraries
ln -s "$libraries/libgomp.so.1" libraries/
for name in gcc g++; do
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%s PATH=%s:$PATH exec %s --sysroot=%s "$@"\n' \
        "'$libraries'" "'$folder/root/usr/bin'" "'$folder/root/usr/bin/$name'" "'$folder/root'" > bin/$name
    chmod +x bin/$name
done
