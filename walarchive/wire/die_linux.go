package wire

import "syscall"

// dieWithParent has the kernel kill the process together with the thread that started it: lock it to its goroutine.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
