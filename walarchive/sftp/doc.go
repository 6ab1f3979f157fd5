// Package sftp is the walarchive.Storage on a host that is reached by SFTP: a directory there, without a remote shell.
//
// The server must offer hardlink@openssh.com, by which a name is given to a complete file and never taken away from
// another one, posix-rename@openssh.com, and fsync@openssh.com, without which nothing there is durable. OpenSSH does; of a
// server that does not, nothing is used. Host keys must be in known_hosts; there is no way around that.
//
// An object is written under a temporary name, synced, and linked to its name; then the directory is synced. The directory
// can be read by the driver of directories, too, and stored to: only the replacing of small objects by both at once is
// not guarded, so all hosts that write reach the repository in the same way.
package sftp
