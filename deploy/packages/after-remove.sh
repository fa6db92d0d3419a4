#!/bin/sh
# Runs when the files are gone. dpkg calls it as `remove`, `purge` or `upgrade`, rpm with the number of versions that stay.
set -e
if [ "$1" = purge ]; then
    rm -rf /var/lib/onlooker
fi
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
