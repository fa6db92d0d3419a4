#!/bin/sh
# Runs before the files go. dpkg calls it as `remove` or `upgrade`, rpm with the number of versions that stay.
set -e
[ -d /run/systemd/system ] || exit 0
case "$1" in
    remove|0) systemctl --no-reload disable --now onlooker.service ;;
esac
