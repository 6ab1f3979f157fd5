package e2e

import (
	"flag"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skytools/skyd/internal/pgtest"
)

var withSystemd = flag.Bool("systemd", false, "run the unit under a systemd in a container (builds its image)")

// TestSystemd_UnitUnderTheRealThing tries deploy/skyd.service: start, reload, watchdog, a wrong configuration, stop.
func TestSystemd_UnitUnderTheRealThing(t *testing.T) {
	if !*withSystemd {
		t.Skip("takes an image of its own: ./task test:systemd")
	}
	if out, err := exec.CommandContext(t.Context(), "image/systemd.sh").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	docker := func(args ...string) (string, error) {
		out, err := exec.Command("docker", args...).CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	must := func(out string, err error) string {
		t.Helper()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return out
	}
	id := must(docker("run", "-d", "--rm", "--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined", "--security-opt",
		"apparmor=unconfined", "--cgroupns", "private", "--tmpfs", "/run", "--tmpfs", "/tmp", "skyd-systemd"))
	t.Cleanup(func() { _, _ = docker("rm", "-f", id) })
	in := func(script string) (string, error) { return docker("exec", id, "sh", "-c", script) }
	property := func(name string) string { out, _ := in("systemctl show skyd --value -p " + name); return out }
	pgtest.Eventually(t, time.Minute, "systemd runs", func() bool {
		out, _ := in("systemctl is-system-running")
		return out == "running" || out == "degraded"
	})
	must(docker("cp", binary, id+":/usr/bin/skyd"))
	must(docker("cp", "../deploy/skyd.service", id+":/etc/systemd/system/skyd.service"))
	const database = `  - {name: %s, dsn: "host=127.0.0.1 port=1 dbname=x user=x"}\n`
	must(in(`useradd --system skyd && mkdir -p /etc/skyd /etc/systemd/system/skyd.service.d &&
		printf 'databases:\n` + fmt.Sprintf(database, "main") + `' >/etc/skyd/skyd.yaml && chmod 644 /etc/skyd/skyd.yaml &&
		printf '[Service]\nWatchdogSec=5s\n' >/etc/systemd/system/skyd.service.d/fast.conf && systemctl daemon-reload`))

	must(in("systemctl start skyd")) // returns with READY=1, though the database is down
	first := property("MainPID")
	if text := property("StatusText"); !strings.HasPrefix(text, "serving 1 database(s)") {
		t.Errorf("status: %q", text)
	}
	must(in(`printf '` + fmt.Sprintf(database, "more") + `' >>/etc/skyd/skyd.yaml && systemctl reload skyd`)) // returns with the READY=1 after RELOADING=1
	if text, pid := property("StatusText"), property("MainPID"); !strings.HasPrefix(text, "serving 2 database(s)") || pid != first {
		t.Errorf("after the reload: %q, process %s, was %s", text, pid, first)
	}
	must(in("kill -STOP " + first))
	pgtest.Eventually(t, 2*time.Minute, "the watchdog brings a new process", func() bool {
		return property("NRestarts") == "1" && property("ActiveState") == "active" && property("MainPID") != first
	})
	must(in("systemctl stop skyd"))
	if result, code := property("Result"), property("ExecMainStatus"); result != "success" || code != "0" {
		t.Errorf("after the stop: %s, exit code %s", result, code)
	}
	must(in("echo 'tikcer: {}' >>/etc/skyd/skyd.yaml"))
	if out, err := in("systemctl start skyd"); err == nil {
		t.Errorf("started with a wrong configuration: %s", out)
	}
	if state, code := property("ActiveState"), property("ExecMainStatus"); state != "failed" || code != "2" {
		t.Errorf("with a wrong configuration: %s, exit code %s; it must not be started again", state, code)
	}
	if out, _ := in("journalctl -u skyd --no-pager | tail -n 20"); !strings.Contains(out, "skyd.yaml:4: tikcer: unknown key (did you mean ticker?)") {
		t.Errorf("journal: %s", out)
	}
}

// A crash and the SIGABRT of a watchdog are no wrong configuration, for which the unit has no restart.
func TestRun_AbortEndsByTheSignal(t *testing.T) {
	t.Parallel()
	d := daemon(t, "run", "--db", "host=127.0.0.1 port=1 dbname=x user=x")
	pgtest.Eventually(t, time.Minute, "the daemon runs", func() bool { return strings.Contains(d.out.String(), "skyd is running") })
	if err := d.cmd.Process.Signal(syscall.SIGABRT); err != nil {
		t.Fatal(err)
	}
	<-d.done
	if status := d.cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGABRT {
		t.Errorf("ended with %v, want the signal: exit code 2 means that a restart is of no use", d.cmd.ProcessState)
	}
	if !strings.Contains(d.out.String(), "goroutine ") {
		t.Error("no stacks for whoever looks for the cause")
	}
}
