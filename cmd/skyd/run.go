package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/runtime"
)

// runFlags are the flags of skyd run that stand for configuration keys.
type runFlags struct {
	listen   string
	insecure bool
	socket   string
}

// newRunCommand builds skyd run: the daemon.
func newRunCommand(a *app) *cobra.Command {
	var flags runFlags
	cmd := &cobra.Command{
		Use:   "run [--config FILE] [--db DSN]...",
		Short: "run the daemon: ticker and maintenance for PgQ databases",
		Long: `Runs ticker and maintenance for the given databases until it is told to stop. --db alone needs no file. A database
that is down, or that does not have PgQ yet, is waited for.

SIGTERM or SIGINT ends it cleanly with exit code 0; a second one ends it at once with exit code 1. An address or socket
that is taken is exit code 1, a wrong configuration exit code 2 with one line per fault.`,
		Example: `  skyd run --db postgres://app@127.0.0.1/app
  skyd run --config /etc/skyd/skyd.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runDaemon(cmd, flags) },
	}
	f := cmd.Flags()
	f.StringVar(&flags.listen, "listen", "", "HTTP `ADDRESS` for health and metrics (default "+configs.DefaultListen+"; none: no HTTP)")
	f.BoolVar(&flags.insecure, "insecure", false, "allow plain HTTP on an address that other machines reach")
	f.StringVar(&flags.socket, "socket", "", "`PATH` of the control socket (none: no socket)")
	return cmd
}

// runDaemon runs the daemon until a signal comes.
func (a *app) runDaemon(cmd *cobra.Command, flags runFlags) error {
	// A crash, and the SIGABRT of a watchdog, must not end with the exit code 2 of the Go runtime: that of a wrong
	// configuration, which service managers are told not to start again. By this they end by a signal.
	debug.SetTraceback("crash")
	keys := map[string]any{}
	for flag, set := range map[string]func(){
		"listen":     func() { keys["http.listen"] = flags.listen },
		"insecure":   func() { keys["http.insecure"] = flags.insecure },
		"socket":     func() { keys["control.socket"] = flags.socket },
		"log-format": func() { keys["log.format"] = a.logFormat },
		"verbose":    func() { keys["log.level"] = "debug" },
		"quiet":      func() { keys["log.level"] = "warn" },
	} {
		if cmd.Flags().Changed(flag) {
			set()
		}
	}
	c, err := a.loadConfig(cmd.Context(), keys)
	if err != nil {
		return err
	}
	lines := runtime.NewLogSwitch(a.stderr, c.Log)
	log := runtime.NewLogger(lines.Handler())
	for _, w := range c.Warnings {
		log.Warn("questionable configuration", "warning", w)
	}
	daemon, err := runtime.New(cmd.Context(), c.Config, runtime.Options{
		Log: log, ApplyLog: lines.Apply, Getenv: os.Getenv,
		Load:  func(ctx context.Context) (configs.Loaded, error) { return a.readConfig(ctx, keys) },
		Build: runtime.Build{Version: buildVersion(), Revision: buildRevision()}, ConfigFile: a.configFile,
	})
	if err != nil {
		return withExit(exitUsage, "", err)
	}
	secondSignal(cmd.Context(), exitFailed)
	defer reloadOnHangup(cmd.Context(), daemon)()
	err = daemon.Run(cmd.Context())
	if listen := (*runtime.ListenError)(nil); errors.As(err, &listen) {
		return withExit(exitFailed, "choose another address with --listen HOST:PORT, or --listen none", err)
	}
	if errors.Is(err, runtime.ErrSocketTaken) {
		return withExit(exitFailed, "see it with skyd status, or give this one its own with --socket PATH", err)
	}
	return withExit(exitFailed, "", err)
}

// reloadOnHangup reloads the configuration with each SIGHUP, until the returned function is called. What comes of it is
// in the daemon's log.
func reloadOnHangup(ctx context.Context, daemon *runtime.Daemon) func() {
	ctx, cancel := context.WithCancel(ctx)
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGHUP)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range ch {
			_, _ = daemon.Reload(ctx) // the daemon logs it
		}
	}()
	return func() {
		signal.Stop(ch)
		cancel()
		close(ch)
		<-ended
	}
}

// loadConfig reads the configuration as the global flags say. A configuration that is refused is told with one line per
// fault.
func (a *app) loadConfig(ctx context.Context, keys map[string]any) (configs.Loaded, error) {
	c, err := a.readConfig(ctx, keys)
	if faults := configs.Faults(nil); errors.As(err, &faults) {
		return c, a.refuse(faults)
	}
	return c, err
}

// readConfig reads the configuration as the global flags say.
func (a *app) readConfig(ctx context.Context, keys map[string]any) (configs.Loaded, error) {
	return configs.Load(ctx, configs.Source{File: a.configFile, DSNs: a.dsns, Environ: os.Environ(), Flags: keys})
}

// refuse makes the error of a refused configuration: all lines but the last are printed here, the last is the error, so
// that every fault is one line of its own. JSON output has one document, with all of them.
func (a *app) refuse(faults configs.Faults) error {
	if a.output != "table" || len(faults) == 0 {
		return withExit(exitUsage, "", faults)
	}
	last := len(faults) - 1
	for _, f := range faults[:last] {
		_, _ = io.WriteString(a.stderr, "skyd: "+strings.ReplaceAll(f.String(), "\n", "; ")+"\n")
	}
	return withExit(exitUsage, "", faults[last:])
}

// secondKey is the key of the exit code that a second signal gives.
type secondKey struct{}

// withSecondSignal adds the exit code of a second signal to a context; 0 is 128 + the signal's number.
func withSecondSignal(ctx context.Context) (context.Context, *atomic.Int32) {
	code := new(atomic.Int32)
	return context.WithValue(ctx, secondKey{}, code), code
}

// secondWaits, in place of an exit code, lets further signals change nothing: for a command that is quick to end and
// must clean up.
const secondWaits = -1

// secondSignal chooses the exit code of a second signal.
func secondSignal(ctx context.Context, code int32) {
	if v, ok := ctx.Value(secondKey{}).(*atomic.Int32); ok {
		v.Store(code)
	}
}
