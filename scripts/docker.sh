# Sourced by .ci/run: makes sure that a Docker daemon answers. One that is
# started here ends with the script.
if ! docker info >/dev/null 2>&1; then
    command -v dockerd >/dev/null || { apt-get update -q || true; DEBIAN_FRONTEND=noninteractive apt-get install -q -y docker.io; }
    if ! docker info >/dev/null 2>&1; then
        dockerd >/tmp/skyd-dockerd.log 2>&1 &
        dockerd_pid=$!
        trap 'kill "$dockerd_pid"' EXIT
        for _ in $(seq 60); do
            docker info >/dev/null 2>&1 && break
            sleep 1
        done
        docker info >/dev/null || { tail -n 20 /tmp/skyd-dockerd.log; exit 1; }
    fi
fi
