package pgserver

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// account is the operating system user a server runs as when this process is
// root. A nil account means: the user of this process.
type account struct {
	name     string
	uid, gid int
}

// serverAccount picks the user for servers.
func serverAccount() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.Atoi(u.Uid)
		if err != nil {
			return nil, fmt.Errorf("user %s has the id %q: %w", name, u.Uid, err)
		}
		gid, err := strconv.Atoi(u.Gid)
		if err != nil {
			return nil, fmt.Errorf("user %s has the group id %q: %w", name, u.Gid, err)
		}
		return &account{name: name, uid: uid, gid: gid}, nil
	}
	return &account{name: "65534", uid: 65534, gid: 65534}, nil // initdb -U needs no passwd entry
}

// own gives path to the account.
func (a *account) own(path string) error {
	if a == nil {
		return nil
	}
	return os.Lchown(path, a.uid, a.gid)
}

// reach tells whether the account can pass through all of dir's ancestors and
// dir itself.
func (a *account) reach(dir string) error {
	if a == nil {
		return nil
	}
	for d := filepath.Clean(dir); ; d = filepath.Dir(d) {
		fi, err := os.Stat(d)
		if err != nil {
			return err
		}
		if fi.Mode().Perm()&0o001 == 0 && !ownedBy(fi, a.uid) {
			return fmt.Errorf("operating system user %s, which runs PostgreSQL for root, cannot pass through %s: chmod o+x it or choose another directory", a.name, d)
		}
		if d == filepath.Dir(d) {
			return nil
		}
	}
}

// tempBase is the first temporary directory the account can reach.
func tempBase(a *account) (string, error) {
	var first error
	for _, dir := range []string{os.TempDir(), "/tmp", "/var/tmp"} {
		err := a.reach(dir)
		if err == nil {
			return dir, nil
		}
		if first == nil {
			first = err
		}
	}
	return "", first
}

// serverEnv is the environment of server programs: what this process has,
// without the variables that would change what they do.
func serverEnv() []string {
	env := make([]string, 0, len(os.Environ())+2)
	for _, kv := range os.Environ() {
		if strings.HasPrefix(kv, "PG") || strings.HasPrefix(kv, "LC_") || strings.HasPrefix(kv, "LANG") || strings.HasPrefix(kv, "TZ=") {
			continue
		}
		env = append(env, kv)
	}
	return append(env, "LC_ALL=C", "TZ=UTC")
}
