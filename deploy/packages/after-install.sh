#!/bin/sh
# Runs after the files are there. dpkg calls it as `configure OLD_VERSION`, rpm with the number of installed versions.
set -e
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
# An update restarts the service if it runs. A first installation does not start it.
case "$1:$2" in
    configure:?*|[2-9]:*) systemctl try-restart onlooker.service ;;
esac
