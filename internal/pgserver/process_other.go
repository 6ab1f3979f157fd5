//go:build !unix

package pgserver

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
)

// Only Unix systems can run throw-away servers; elsewhere New fails.
var errUnsupported = errors.New("throw-away PostgreSQL servers need a Unix system")

var (
	sigFast      = os.Interrupt
	sigImmediate = os.Kill
)

func setAccount(*exec.Cmd, *account)                   {}
func ownedBy(fs.FileInfo, int) bool                    { return false }
func killGroup(int) error                              { return errUnsupported }
func killTree(int) error                               { return errUnsupported }
func freezeTree(int) error                             { return errUnsupported }
func thawTree(int) error                               { return errUnsupported }
func runsIn(int, string) bool                          { return false }
func removeSharedMemory(int)                           {}
func tryLock(string) (func(), error)                   { return nil, errUnsupported }
func lockFile(context.Context, string) (func(), error) { return nil, errUnsupported }
