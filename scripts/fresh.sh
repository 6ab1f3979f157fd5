#!/bin/sh
# Fails if the working tree differs from the commit: after the generators ran,
# that means a generated file was not committed. Files nobody committed count
# only where generators write.
set -eu
if ! git rev-parse --git-dir >/dev/null 2>&1; then
    echo "fresh.sh: not a git checkout, nothing to compare with" >&2
    exit 0
fi
git --no-pager diff --exit-code
new=$(git ls-files --others --exclude-standard -- docs pgqsql/bundle)
if [ -n "$new" ]; then
    echo "fresh.sh: generated but not committed:" "$new" >&2
    exit 1
fi
