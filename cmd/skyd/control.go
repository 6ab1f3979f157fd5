package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/runtime"
)

// newReloadCommand builds skyd reload.
func newReloadCommand(a *app) *cobra.Command {
	var socket string
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "let the running daemon read its configuration again",
		Long: `The daemon reads the files it was started with and puts the difference into force: only the databases that changed are
touched. A configuration with faults changes nothing; the faults are printed, one per line, with exit code 2. SIGHUP does
the same, with the outcome in the log.`,
		Example: "  skyd reload\n  skyd reload --socket /run/skyd/skyd.sock",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.onDaemon(cmd, socket, func(ctx context.Context, path string) error {
				r, err := runtime.RequestReload(ctx, path)
				if faults := configs.Faults(nil); errors.As(err, &faults) {
					return a.refuse(faults)
				}
				if err != nil {
					return err
				}
				for _, w := range r.Warnings {
					a.note("skyd: warning: %s", w)
				}
				return a.show(r, func(w io.Writer) error { return writeReloaded(w, r) })
			})
		},
	}
	socketFlag(cmd, &socket)
	return cmd
}

// writeReloaded writes one line per kind of change.
func writeReloaded(w io.Writer, r runtime.Reloaded) error {
	if !r.Changed {
		fmt.Fprintln(w, "nothing has changed")
	}
	for _, line := range []struct {
		what  string
		names []string
	}{
		{"added", r.Added},
		{"removed", r.Removed},
		{"connected anew", r.Replaced},
		{"settings changed", r.Adjusted},
		{"keys in force", r.Keys},
		{"in force after a restart only", r.RestartNeeded},
	} {
		if len(line.names) > 0 {
			fmt.Fprintf(w, "%s: %s\n", line.what, strings.Join(line.names, ", "))
		}
	}
	return nil
}

// stopResult is the result of skyd stop.
type stopResult struct {
	Changed bool   `json:"changed"`
	Socket  string `json:"socket"`
}

// newStopCommand builds skyd stop.
func newStopCommand(a *app) *cobra.Command {
	var socket string
	cmd := &cobra.Command{
		Use:   "stop",
		Short: "stop the running daemon and wait for its end",
		Long: `Stops the daemon as SIGTERM does: no new work, running calls end, exit code 0. When no daemon runs, nothing is to be done
("changed": false, exit code 0). Under systemd use systemctl stop.`,
		Example: "  skyd stop --timeout 1m",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.onDaemon(cmd, socket, func(ctx context.Context, path string) error {
				r := stopResult{Changed: true, Socket: path}
				err := runtime.RequestStop(ctx, path)
				if errors.Is(err, runtime.ErrNotRunning) {
					r.Changed, err = false, nil
				}
				if err != nil {
					return err
				}
				return a.show(r, func(w io.Writer) error {
					text := "the daemon has stopped"
					if !r.Changed {
						text = "no daemon is running there: " + path
					}
					_, err := fmt.Fprintln(w, text)
					return err
				})
			})
		},
	}
	socketFlag(cmd, &socket)
	return cmd
}

// socketFlag declares --socket.
func socketFlag(cmd *cobra.Command, socket *string) {
	cmd.Flags().StringVar(socket, "socket", "", "`PATH` of the daemon's control socket")
}

// onDaemon talks to the daemon behind the control socket, within --timeout.
func (a *app) onDaemon(cmd *cobra.Command, socket string, work func(ctx context.Context, path string) error) error {
	path, err := a.socketPath(cmd, socket)
	if err != nil {
		return err
	}
	ctx, cancel := a.withTimeout(cmd.Context())
	defer cancel()
	err = work(ctx, path)
	if errors.Is(err, runtime.ErrNotRunning) {
		return withExit(exitConnect, "start it with skyd run, or name its socket with --socket PATH", err)
	}
	return err
}
