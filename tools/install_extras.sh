#!/bin/sh
# Installs into $BIN's environment what only some tests need. What cannot be had here is
# told, and those tests are skipped with that reason.
install="$BIN/python -m pip install --quiet --disable-pip-version-check"

extras="scale page"
if ! $install --editable ".[$(echo $extras | tr ' ' ',')]" 2>/dev/null; then
  for extra in $extras; do
    $install --editable ".[$extra]" ||
      echo "skipped: tests of '$extra', which pip cannot install here"
  done
fi

# The plain PyTorch of Linux brings 5 GB for GPUs; the tests need the one for CPUs.
if $install 'torch==2.13.0+cpu' 2>/dev/null; then
  $install --editable '.[parity]'
else
  echo "skipped: the live comparison with diffusers, as no torch for CPUs is to be had;" \
    "pip install -e '.[parity]' brings the large one"
fi

if ! command -v chromium >/dev/null && ! command -v google-chrome >/dev/null; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null ||
    ! { apt-get update -qq && apt-get install -qq --yes chromium; } >/dev/null 2>&1; then
    echo "skipped: tests of the page, as there is no chromium; install one"
  fi
fi
