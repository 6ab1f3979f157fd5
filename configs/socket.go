package configs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/skytools/skyd/walarchive"
)

// DefaultSocket is the path of the control socket when none is configured: the daemon and skyd status find each other
// by the same rule. The first directory counts that the environment names: RUNTIME_DIRECTORY (systemd), XDG_RUNTIME_DIR;
// else /run/skyd for root, and a directory of the user below the one for temporary files for everybody else.
func DefaultSocket(environ []string) string {
	get := func(name string) string { return lookup(environ, name) }
	const file = "skyd.sock"
	if dir, _, _ := strings.Cut(get("RUNTIME_DIRECTORY"), ":"); dir != "" {
		return filepath.Join(dir, file)
	}
	if dir := get("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "skyd", file)
	}
	if os.Getuid() == 0 {
		return filepath.Join("/run/skyd", file)
	}
	temp := get("TMPDIR")
	if temp == "" {
		temp = "/tmp"
	}
	return filepath.Join(temp, fmt.Sprintf("skyd-%d", os.Getuid()), file)
}

// lookup finds a variable of an environment; "" when it is not set.
func lookup(environ []string, name string) string {
	for _, pair := range environ {
		if v, ok := strings.CutPrefix(pair, name+"="); ok {
			return v
		}
	}
	return ""
}

// withPlaces fills in where an archive keeps its state and its socket.
func withPlaces(w walarchive.Config, control string, environ []string) walarchive.Config {
	if w.StateDir == "" {
		dir, _, _ := strings.Cut(lookup(environ, "STATE_DIRECTORY"), ":")
		if dir == "" {
			dir = "/var/lib/skyd"
		}
		w.StateDir = filepath.Join(dir, "wal", w.Source)
	}
	if w.Socket == "" {
		if control == "" || control == None {
			control = DefaultSocket(environ)
		}
		w.Socket = filepath.Join(filepath.Dir(control), "wal-"+w.Source+".sock")
	}
	return w
}
