//go:build unix && !linux

package pgserver

import (
	"fmt"
	"os/exec"
	"strings"
	"syscall"
)

// setAccount makes cmd run as acc, in a process group of its own so that the
// terminal's Ctrl-C goes to this process alone.
func setAccount(cmd *exec.Cmd, acc *account) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if acc != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(acc.uid), Gid: uint32(acc.gid)}
	}
}

// processTable maps the processes of the machine that are not zombies to
// their parents.
func processTable() (map[int]int, error) {
	out, err := exec.Command("ps", "-A", "-o", "pid=,ppid=,state=").Output()
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	table := make(map[int]int)
	for line := range strings.Lines(string(out)) {
		var pid, ppid int
		var state string
		if _, err := fmt.Sscan(line, &pid, &ppid, &state); err == nil && !strings.HasPrefix(state, "Z") {
			table[pid] = ppid
		}
	}
	return table, nil
}

// runsIn cannot be known here without more tools: say no.
func runsIn(int, string) bool { return false }

// removeSharedMemory leaves the 56 bytes to the operating system.
func removeSharedMemory(int) {}
