package configs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// DefaultSocket is the path of the control socket when none is configured: the daemon and skyd status find each other
// by the same rule. The first directory counts that the environment names: RUNTIME_DIRECTORY (systemd), XDG_RUNTIME_DIR;
// else /run/skyd for root, and a directory of the user below the one for temporary files for everybody else.
func DefaultSocket(environ []string) string {
	get := func(name string) string {
		for _, pair := range environ {
			if v, ok := strings.CutPrefix(pair, name+"="); ok {
				return v
			}
		}
		return ""
	}
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
