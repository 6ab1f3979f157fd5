package pgserver

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// discard deletes the directory of a cluster whose server has ended, and what
// the server left outside of it.
func discard(dir string, unlock func()) error {
	if pidFile := readPidFile(dir); len(pidFile) >= 7 {
		// Line 7 holds key and id of the shared memory segment.
		if ids := bytes.Fields(pidFile[6]); len(ids) == 2 {
			if id, err := strconv.Atoi(string(ids[1])); err == nil {
				removeSharedMemory(id)
			}
		}
	}
	err := os.RemoveAll(dir)
	if unlock != nil {
		unlock()
	}
	return err
}

// readPidFile returns the lines of postmaster.pid, which exists while the
// server runs and after it was killed.
func readPidFile(dir string) [][]byte {
	text, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	if err != nil {
		return nil
	}
	return bytes.Split(text, []byte("\n"))
}

// sweep deletes the clusters in base whose owners are dead. Errors are left
// alone: they belong to somebody else's directory.
func sweep(base string) {
	dirs, err := filepath.Glob(filepath.Join(base, "skyd-pg-*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		fi, err := os.Stat(filepath.Join(dir, "lock"))
		if err != nil || !ownedBy(fi, os.Geteuid()) || time.Since(fi.ModTime()) < time.Minute {
			continue // not ours, or not locked yet
		}
		unlock, err := tryLock(filepath.Join(dir, "lock"))
		if err != nil {
			continue // the owner lives
		}
		if lines := readPidFile(dir); len(lines) > 0 {
			// A server that was frozen when its owner died.
			if pid, err := strconv.Atoi(string(lines[0])); err == nil && runsIn(pid, filepath.Join(dir, "data")) {
				_ = killTree(pid)
			}
		}
		_ = discard(dir, unlock)
	}
}
