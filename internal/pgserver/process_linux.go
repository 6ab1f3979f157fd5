package pgserver

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
)

// setAccount makes cmd run as acc, in a process group of its own so that the
// terminal's Ctrl-C goes to this process alone, and makes the kernel interrupt
// it when the thread that started it ends.
func setAccount(cmd *exec.Cmd, acc *account) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGINT}
	if acc != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(acc.uid), Gid: uint32(acc.gid)}
	}
}

// processTable maps the processes of the machine that are not zombies to
// their parents.
func processTable() (map[int]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	table := make(map[int]int, len(names))
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", name, "stat"))
		if err != nil {
			continue // ended meanwhile
		}
		// pid (comm) state ppid ...; comm may hold spaces and parentheses
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) < 2 || fields[0][0] == 'Z' || fields[0][0] == 'X' {
			continue
		}
		ppid, err := strconv.Atoi(string(fields[1]))
		if err != nil {
			return nil, fmt.Errorf("parse /proc/%d/stat: %w", pid, err)
		}
		table[pid] = ppid
	}
	return table, nil
}

// runsIn tells whether process pid works in directory dir, as a postmaster
// does in its data directory.
func runsIn(pid int, dir string) bool {
	cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	return err == nil && cwd == dir
}

// removeSharedMemory deletes the System V segment a killed server leaves.
func removeSharedMemory(id int) {
	// Best effort: the segment is 56 bytes, and root without CAP_SYS_ADMIN
	// may not delete it.
	_, _, _ = syscall.Syscall(syscall.SYS_SHMCTL, uintptr(id), 0 /* IPC_RMID */, 0)
}
