#!/usr/bin/env bash
# A Chromium for the browser tests: the one of the system, else Debian's package, else Playwright's own download.
set -eu
for name in chromium chromium-browser google-chrome; do
  if command -v "$name" >/dev/null; then exit 0; fi
done
if command -v apt-get >/dev/null; then
  sudo=$([ "$(id -u)" = 0 ] || echo sudo)
  if $sudo apt-get update -qq && $sudo apt-get install -y -qq --no-install-recommends chromium fonts-noto-color-emoji >/dev/null; then exit 0; fi
fi
"$1/python" -m playwright install --with-deps chromium
