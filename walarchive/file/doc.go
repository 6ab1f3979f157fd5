// Package file keeps an archive in a directory, local or on NFS: file:///var/lib/skyd/wal.
//
// An object is a file. It is written and synced under a temporary name in its directory, then linked to its final name,
// which fails if that exists: link(2) is the lock, on NFS too. Then the directory is synced. Small objects that are
// replaced are written beside and renamed, under a lock of the whole storage.
package file
