package pgserver

import (
	"os/exec"
)

// Command prepares a program that works on the cluster's files: as the user that the server runs as, in the cluster's
// directory.
func (c *Cluster) Command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...) //nolint:noctx // whoever starts it knows how it ends
	setAccount(cmd, c.acc)
	cmd.Dir, cmd.Env = c.Dir, serverEnv()
	return cmd
}

// Own gives a path to the user that the server runs as.
func (c *Cluster) Own(path string) error { return c.acc.own(path) }
