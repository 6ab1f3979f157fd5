package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/pgq"
	"github.com/skytools/skyd/pgqsql"
	"github.com/skytools/skyd/runtime"
)

// patient is what the doctor found in one place: a database, or the configuration.
type patient struct {
	Name     string        `json:"name"`
	Findings []pgq.Finding `json:"findings"`
	err      error         // of the connection
}

// doctorResult is the result of skyd doctor.
type doctorResult struct {
	OK       bool      `json:"ok"`
	Patients []patient `json:"patients"`
}

// newDoctorCommand builds skyd doctor.
func newDoctorCommand(a *app) *cobra.Command {
	var (
		all    bool
		socket string
	)
	cmd := &cobra.Command{
		Use:   "doctor [--config FILE] [--db DSN]...",
		Short: "check everything a production setup needs, and name each fault with its remedy",
		Long: `Looks at the configuration and at every database of it, or at those of --db: connection, TLS, version, rights, schema and its
functions, settings of the server, autovacuum, forgotten transactions and slots, clocks, other tickers, queues and
consumers. With --config or --socket the running daemon is asked, too: what skyd check finds, from the same snapshot. Nothing is
changed. Exit code 0: no fault (warnings and notes may be there), 1: faults, 3: a database cannot be reached.`,
		Example: "  skyd doctor --db postgres://app@127.0.0.1/app\n  skyd doctor --config /etc/skyd/skyd.yaml -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.loadConfig(cmd.Context(), nil)
			if err != nil {
				return err
			}
			ctx, cancel := a.withTimeout(cmd.Context())
			defer cancel()
			r := doctorResult{OK: true}
			if a.configFile != "" {
				r.Patients = append(r.Patients, examineConfig(c))
			}
			if a.configFile != "" || socket != "" {
				p, err := a.examineDaemon(cmd, socket)
				if err != nil {
					return err
				}
				r.Patients = append(r.Patients, p)
			}
			for _, d := range c.Databases {
				r.Patients = append(r.Patients, examineDatabase(ctx, d))
			}
			var unreached error
			for _, p := range r.Patients {
				for _, f := range p.Findings {
					r.OK = r.OK && f.Level != pgq.Fault
				}
				unreached = errors.Join(unreached, p.err)
			}
			if err := a.show(r, func(w io.Writer) error { return writeDoctor(w, r, all || a.verbose) }); err != nil {
				return err
			}
			switch {
			case unreached != nil:
				a.exit = exitConnect
			case !r.OK:
				a.exit = exitFailed
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "show also what is fine")
	socketFlag(cmd, &socket)
	return cmd
}

// examineConfig turns the warnings about a configuration into findings.
func examineConfig(c configs.Loaded) patient {
	p := patient{Name: strings.Join(c.Files, ", "), Findings: []pgq.Finding{}}
	for _, w := range c.Warnings {
		p.Findings = append(p.Findings, pgq.Finding{Name: "config", Level: pgq.Warning, Text: w, Remedy: "see docs/config.md"})
	}
	if len(c.Warnings) == 0 {
		p.Findings = append(p.Findings, pgq.Finding{Name: "config", Level: pgq.Fine, Text: "the configuration is right"})
	}
	return p
}

// examineDaemon turns the verdicts of skyd check into findings, so that both always agree. That no daemon runs is none of
// its faults: the doctor is also asked before there is one.
func (a *app) examineDaemon(cmd *cobra.Command, socket string) (patient, error) {
	p := patient{Name: "daemon", Findings: []pgq.Finding{}}
	path, err := a.socketPath(cmd, socket)
	if err != nil {
		return p, err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), daemonPatience)
	defer cancel()
	s, err := runtime.FetchStatus(ctx, path)
	switch {
	case errors.Is(err, runtime.ErrNotRunning):
		p.Findings = append(p.Findings, pgq.Finding{Name: "running", Level: pgq.Note, Text: oneLine(err.Error()), Remedy: "skyd run --config FILE, or systemctl start skyd"})
		return p, nil
	case err != nil:
		p.Findings = append(p.Findings, pgq.Finding{Name: "running", Level: pgq.Fault, Text: oneLine(err.Error()), Remedy: "restart it; its log and skyd status tell why"})
		return p, nil
	}
	p.Name = "daemon " + s.Instance
	for _, j := range runtime.Judge(s, runtime.DefaultLimits()) {
		f := pgq.Finding{Name: j.Name, Level: pgq.Fine, Text: oneLine(j.Text)}
		switch j.Severity {
		case runtime.OK:
		case runtime.Warning:
			f.Level, f.Remedy = pgq.Warning, daemonRemedy
		default:
			f.Level, f.Remedy = pgq.Fault, daemonRemedy
		}
		p.Findings = append(p.Findings, f)
	}
	return p, nil
}

const (
	// daemonPatience limits a question to the daemon.
	daemonPatience = 2 * time.Second
	daemonRemedy   = "skyd status shows it in its place; docs/operations.md has the runbook"
)

// examineDatabase examines one database.
func examineDatabase(ctx context.Context, d configs.Database) patient {
	p := patient{Name: d.Name, Findings: []pgq.Finding{}}
	fail := func(err error) patient {
		p.err = err
		p.Findings = append(p.Findings, pgq.Finding{
			Name: "connection", Level: pgq.Fault, Text: oneLine(err.Error()),
			Remedy: "check host, port and credentials of the dsn with psql, and pg_hba.conf on the server",
		})
		return p
	}
	db, err := runtime.OpenDatabase(ctx, d, 1)
	if err != nil {
		return fail(err)
	}
	defer db.Close()
	vitals, err := pgq.Examine(ctx, db)
	if err != nil {
		return fail(err)
	}
	p.Findings = append(p.Findings, pgq.Finding{Name: "connection", Level: pgq.Fine, Text: "connected as " + vitals.User})
	p.Findings = append(p.Findings, pgq.Diagnose(vitals, time.Now())...)
	report, err := pgqsql.Inspect(ctx, db)
	if err != nil {
		return fail(err)
	}
	p.Findings = append(p.Findings, drift(report)...)
	if vitals.Usable && !vitals.InRecovery {
		problems, err := pgq.Problems(ctx, db)
		if err != nil {
			problems = []pgq.Finding{{Name: "check", Level: pgq.Note, Text: oneLine(err.Error()), Remedy: "run it as a member of pgq_admin and pg_monitor"}}
		}
		p.Findings = append(p.Findings, problems...)
	}
	return p
}

// drift turns what differs from the shipped SQL into findings.
func drift(r pgqsql.Report) (findings []pgq.Finding) {
	for _, s := range r.Schemas {
		switch {
		case s.Owner != pgqsql.Skyd:
		case s.UpToDate():
			findings = append(findings, pgq.Finding{Name: "drift/" + s.Name, Level: pgq.Fine, Text: "is as this program ships it"})
		default:
			findings = append(findings, pgq.Finding{
				Name: "drift/" + s.Name, Level: pgq.Warning,
				Text:   fmt.Sprintf("%d file(s) of this program are not applied, %d function(s) were changed in the database", len(s.Pending), len(s.Drifted)),
				Remedy: "skyd schema upgrade --db DSN --dry-run, then without --dry-run",
			})
		}
	}
	return findings
}

// writeDoctor writes the findings for people: what is wrong, each with its remedy.
func writeDoctor(w io.Writer, r doctorResult, all bool) error {
	for _, p := range r.Patients {
		fmt.Fprintf(w, "%s\n", p.Name)
		if err := writeFindings(w, p.Findings, all); err != nil {
			return err
		}
	}
	return nil
}

// writeFindings writes findings below their place.
func writeFindings(w io.Writer, findings []pgq.Finding, all bool) error {
	fine := 0
	for _, f := range findings {
		if f.Level == pgq.Fine {
			if fine++; !all {
				continue
			}
		}
		fmt.Fprintf(w, "  %-8s %s: %s\n", f.Level, f.Name, f.Text)
		if f.Remedy != "" {
			fmt.Fprintf(w, "           -> %s\n", f.Remedy)
		}
	}
	_, err := fmt.Fprintf(w, "  %d of %d checks are fine\n", fine, len(findings))
	return err
}

// newExplainCommand builds skyd explain.
func newExplainCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "explain", Short: "say why something is as it is"}
	cmd.AddCommand(newExplainLag(a))
	return cmd
}

// newExplainLag builds skyd explain lag.
func newExplainLag(a *app) *cobra.Command {
	var (
		o      objects
		socket string
	)
	cmd := &cobra.Command{
		Use:   "lag [QUEUE] CONSUMER",
		Short: "say why a consumer is behind, and what to do",
		Long: `Asks the database, and the daemon when one answers on the control socket: a consumer that it runs and that fails says so
first.`,
		Example: "  skyd explain lag orders billing --db DSN",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onQueues(cmd, func(ctx context.Context, db *pgq.DB) error {
				if err := o.find(ctx, db, args); err != nil {
					return err
				}
				facts, err := pgq.LoadLagFacts(ctx, db, o.queue, o.consumer)
				if err != nil {
					return err
				}
				r := struct {
					consumerRow
					Behind  int64         `json:"ticks_behind"`
					Reasons []pgq.Finding `json:"reasons"`
				}{consumerRows([]pgq.ConsumerInfo{facts.Consumer}, "", "")[0], facts.Behind, pgq.ExplainLag(facts)}
				if failing := a.failing(cmd, socket, o.queue, o.consumer); len(failing) > 0 {
					r.Reasons = slices.DeleteFunc(r.Reasons, func(f pgq.Finding) bool { return f.Level == pgq.Fine })
					r.Reasons = append(failing, r.Reasons...)
				}
				return a.show(r, func(w io.Writer) error {
					if err := writeConsumers(w, []consumerRow{r.consumerRow}); err != nil {
						return err
					}
					for _, f := range r.Reasons {
						fmt.Fprintf(w, "\n%s: %s\n", f.Name, f.Text)
						if f.Remedy != "" {
							fmt.Fprintf(w, "  -> %s\n", f.Remedy)
						}
					}
					return nil
				})
			})
		},
	}
	o.register(cmd, 2)
	socketFlag(cmd, &socket)
	return cmd
}

// failing asks the daemon, if there is one, for workers of the consumer that fail. A daemon that does not answer is no
// fault here: the database has been asked.
func (a *app) failing(cmd *cobra.Command, socket, queue, consumer string) (found []pgq.Finding) {
	path, err := a.socketPath(cmd, socket)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), daemonPatience)
	defer cancel()
	s, err := runtime.FetchStatus(ctx, path)
	if err != nil {
		return nil
	}
	for _, w := range s.Workers {
		if w.Queue != queue || w.Consumer != consumer || w.Fails == 0 {
			continue
		}
		cause := ""
		for _, c := range s.Actors {
			if strings.HasPrefix(c.Path, "database/"+w.Database+"/consumer/"+url.PathEscape(queue)+"/"+url.PathEscape(consumer)) && c.LastError != "" {
				cause = ": " + oneLine(c.LastError)
			}
		}
		found = append(found, pgq.Finding{
			Name: "daemon", Level: pgq.Fault,
			Text:   fmt.Sprintf("skyd on %s runs it in database %s, and it failed %d times in a row%s", s.Instance, w.Database, w.Fails, cause),
			Remedy: "cure what the error names; the batch comes again by itself",
		})
	}
	return found
}
