//go:build unix

package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"
)

const (
	sigFast      = syscall.SIGINT
	sigImmediate = syscall.SIGQUIT
)

func ownedBy(fi fs.FileInfo, uid int) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == uid
}

// descendants lists all processes below pid.
func descendants(pid int) ([]int, error) {
	table, err := processTable()
	if err != nil {
		return nil, err
	}
	below := map[int]bool{pid: true}
	var list []int
	for grown := true; grown; {
		grown = false
		for p, parent := range table {
			if below[parent] && !below[p] {
				below[p], grown = true, true
				list = append(list, p)
			}
		}
	}
	return list, nil
}

// killLimit is how long killed processes may take to be gone.
const killLimit = 10 * time.Second

// signalTree stops pid, so that it starts nothing new, sends sig to all below
// it until none is left that has not got it, and then to pid itself. Those
// below it that are killed are gone when it returns: a backend that still holds
// the shared memory would keep the next postmaster from starting.
func signalTree(pid int, sig syscall.Signal) error {
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return fmt.Errorf("stop process %d: %w", pid, err)
	}
	done := make(map[int]bool)
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for until := time.Now().Add(killLimit); ; <-look.C {
		list, err := descendants(pid)
		if err != nil {
			return err
		}
		fresh := false
		for _, p := range list {
			if done[p] {
				continue
			}
			done[p], fresh = true, true
			if err := syscall.Kill(p, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("signal process %d: %w", p, err)
			}
		}
		if !fresh && (sig != syscall.SIGKILL || len(list) == 0 || time.Now().After(until)) {
			break
		}
	}
	if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("signal process %d: %w", pid, err)
	}
	return nil
}

// killGroup ends the process group that pid leads.
func killGroup(pid int) error { return syscall.Kill(-pid, syscall.SIGKILL) }

func killTree(pid int) error   { return signalTree(pid, syscall.SIGKILL) }
func freezeTree(pid int) error { return signalTree(pid, syscall.SIGSTOP) }

func thawTree(pid int) error {
	list, err := descendants(pid)
	if err != nil {
		return err
	}
	for _, p := range append(list, pid) {
		if err := syscall.Kill(p, syscall.SIGCONT); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("signal process %d: %w", p, err)
		}
	}
	return nil
}

// tryLock takes the lock on path without waiting. The lock lasts until the
// returned function is called or this process ends; a child does not keep it.
func tryLock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { _ = f.Close() }, nil
}

// lockFile takes the lock on path, waiting for it as long as ctx allows.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		unlock, err = tryLock(path)
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return unlock, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %s: %w", path, ctx.Err())
		case <-again.C:
		}
	}
}
