//go:build !linux

package wire

import "syscall"

// dieWithParent: only Linux can.
func dieWithParent() *syscall.SysProcAttr { return nil }
