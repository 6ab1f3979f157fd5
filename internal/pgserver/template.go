package pgserver

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// initdbArgs make a data directory that is the same on every machine.
var initdbArgs = []string{"--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-instructions"}

// template returns the path of a tar file with an initdb'ed data directory for
// b, making it first if this machine has none. One file instead of a directory
// tree: it is complete or absent, also when something cleans the temporary
// directory.
func template(ctx context.Context, b Binaries, acc *account, base string) (string, error) {
	path := templatePath(b, base)
	cache := filepath.Dir(path)
	if err := ownDirectory(cache); err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	// Processes that start together wait for one initdb instead of running
	// one each. The lock only saves time: the rename keeps them safe.
	unlock, err := lockFile(ctx, filepath.Join(cache, "initdb.lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := makeTemplate(ctx, b, acc, base, path); err != nil {
		return "", err
	}
	return path, nil
}

// templatePath is where the template for b is kept.
func templatePath(b Binaries, base string) string {
	key := sha256.Sum256([]byte(b.Dir + "\n" + b.Version + "\n" + strings.Join(initdbArgs, " ")))
	return filepath.Join(base, fmt.Sprintf("skyd-pgserver-%d", os.Geteuid()), fmt.Sprintf("template-%d-%x.tar", b.Major, key[:6]))
}

// keptTemplate returns the path of the template for b, or "" when there is
// none that is safe to use. It makes nothing.
func keptTemplate(b Binaries, base string) string {
	path := templatePath(b, base)
	if checkOwn(filepath.Dir(path)) != nil {
		return ""
	}
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// ownDirectory makes dir, or checks that nobody else can have put something
// into the one that is there.
func ownDirectory(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return checkOwn(dir)
}

// checkOwn tells whether only this user can write to dir.
func checkOwn(dir string) error {
	fi, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !fi.IsDir() || fi.Mode().Perm()&0o022 != 0 || !ownedBy(fi, os.Geteuid()) {
		return fmt.Errorf("%s is not a directory that only this user can write to: remove it", dir)
	}
	return nil
}

func makeTemplate(ctx context.Context, b Binaries, acc *account, base, path string) error {
	work, err := os.MkdirTemp(base, "skyd-initdb-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	if err := acc.own(work); err != nil {
		return err
	}
	data := filepath.Join(work, "data")
	if err := b.initdb(ctx, data); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "new-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // gone already when renamed
	err = pack(tmp, data)
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("pack %s: %w", data, err)
	}
	return os.Rename(tmp.Name(), path)
}

// initdb makes the data directory data. When ctx ends first, nothing of it runs
// on to write into a directory that the caller is about to delete.
func (b Binaries) initdb(ctx context.Context, data string) error {
	cmd, err := b.Command(ctx, "initdb", append([]string{"--pgdata=" + data}, initdbArgs...)...)
	if err != nil {
		return err
	}
	cmd.Dir = filepath.Dir(data)
	// initdb runs servers of its own, in its process group. The output ends
	// with the last of them, so waiting for it is waiting for them.
	cmd.Cancel = func() error { return killGroup(cmd.Process.Pid) }
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb of PostgreSQL %d: %w\n%s", b.Major, err, out)
	}
	return nil
}

// pack writes the directories and files under dir.
func pack(w io.Writer, dir string) error {
	tw := tar.NewWriter(w)
	if err := tw.AddFS(os.DirFS(dir)); err != nil {
		return err
	}
	return tw.Close()
}

// unpack fills the existing directory dir from the tar file and gives all of
// it to the account.
func unpack(path, dir string, acc *account) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // read only
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		if err := unpackEntry(root, tr, h); err != nil {
			return fmt.Errorf("unpack %s: %w", h.Name, err)
		}
		if err := acc.own(filepath.Join(dir, h.Name)); err != nil {
			return err
		}
	}
}

func unpackEntry(root *os.Root, r io.Reader, h *tar.Header) error {
	name := strings.TrimSuffix(h.Name, "/")
	if h.Typeflag == tar.TypeDir {
		if name == "." {
			return nil
		}
		return root.Mkdir(name, 0o700)
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
