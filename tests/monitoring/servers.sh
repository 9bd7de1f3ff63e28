#!/bin/sh
# Puts Debian's prometheus and alertmanager, with promtool and amtool, into FOLDER (usr/bin), unless they are on PATH.
# Nothing of the system is changed and no server is started: the packages are downloaded and unpacked, with lists of
# their own. Where there is no apt-get, or it cannot download, it ends with 1: the tests that need them are skipped and say so.
#
#   servers.sh FOLDER
set -eu
folder=$1
have() { command -v "$1" >/dev/null; }

if have prometheus && have promtool && have amtool && { have alertmanager || have prometheus-alertmanager; }; then
    exit 0
fi
[ -x "$folder/usr/bin/prometheus-alertmanager" ] && exit 0
if ! have apt-get || ! have dpkg; then
    echo "prometheus and alertmanager are not here, nor apt-get to fetch them: their tests will be skipped" >&2
    exit 1
fi
mkdir -p "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial"
cd "$folder/apt"
set -- -qq -o "Dir::State::lists=$PWD/lists" -o "Dir::Cache=$PWD/cache" -o Debug::NoLocking=1 \
    -o "APT::Sandbox::User=$(id -un)"
if apt-get "$@" update && apt-get "$@" download prometheus prometheus-alertmanager; then
    for package in ./*.deb; do dpkg -x "$package" "$folder"; done
    # Debian's alertmanager opens its templates under /usr/share, where nothing was installed. In the unpacked program
    # the path is made relative (the same number of bytes), and a script starts it where that leads to the folder.
    # What it is given as arguments has to be absolute.
    mkdir -p "$folder/usr/libexec"
    LC_ALL=C sed 's#/usr/share/prometheus/alertmanager#usr/share/prometheus//alertmanager#g' \
        "$folder/usr/bin/prometheus-alertmanager" > "$folder/usr/libexec/alertmanager"
    rm "$folder/usr/bin/prometheus-alertmanager"
    printf '#!/bin/sh\ncd "$(dirname "$0")/../.." && exec usr/libexec/alertmanager "$@"\n' \
        > "$folder/usr/bin/prometheus-alertmanager"
    chmod +x "$folder/usr/libexec/alertmanager" "$folder/usr/bin/prometheus-alertmanager"
else
    echo "prometheus and alertmanager could not be downloaded: their tests will be skipped" >&2
fi
rm -rf "$folder/apt"
[ -x "$folder/usr/bin/prometheus-alertmanager" ]
