package walarchive

import (
	"cmp"
	_ "embed" // the source is part of the reference
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// ConfigSource is this file: its comments are the reference of the configuration.
//
//go:embed config.go
var ConfigSource string

// Config is one entry of the section wal: the archive of one cluster.
type Config struct {
	// Name of the source, and of its directory in the repository: letters, digits, _ . and -.
	Source string `koanf:"source"`
	// Data directory of the cluster.
	PGData string `koanf:"pgdata"`
	// Name of a database of the cluster under databases; its role is used for setup and checks.
	Database string `koanf:"database"`
	// Where the archive is: file:///directory, s3://bucket/prefix?endpoint=...&region=... or
	// sftp://user@host/directory?key=...&known_hosts=...
	Storage string `koanf:"storage"`
	// Further storages, by URL, for the same WAL with the same encryption: a WAL file is archived when all storages have it, and
	// fetched from the first that answers. Backups and received WAL go to the first; skyd wal copy fills the others.
	Storages []string `koanf:"storages"`
	// How objects are written from now on: zstd, or none. All are read.
	Compression string `koanf:"compression"`
	// Encryption of the archive.
	Encryption Encryption `koanf:"encryption"`
	// Directory of this host for what must outlive a restart. Empty: the source's one in wal/ below $STATE_DIRECTORY, else
	// below /var/lib/skyd.
	StateDir string `koanf:"state_dir"`
	// Path of the unix socket that push and fetch of this source talk to. Empty: wal-SOURCE.sock beside the control
	// socket.
	Socket string `koanf:"socket"`
	// How many segments are stored or fetched at the same time.
	Workers int `koanf:"workers"`
	// Fetching: the restore_command.
	Fetch FetchConfig `koanf:"fetch"`
	// Receiving WAL over the replication protocol while it is written, in the daemon.
	Receive ReceiveConfig `koanf:"receive"`
	// Base backups on a schedule, in the daemon.
	Backup BackupConfig `koanf:"backup"`
	// What stays after a scheduled backup. With neither keep nor window everything does.
	Expire ExpireConfig `koanf:"expire"`
	// Restoring into a throw-away server on a schedule, in the daemon.
	Drill DrillConfig `koanf:"drill"`
	// A command that the daemon runs again and again.
	Periodic PeriodicConfig `koanf:"periodic"`
	// Commands that are run at certain moments.
	Hooks HooksConfig `koanf:"hooks"`
	// How many bytes of WAL may wait in pg_wal while the repository is away; beyond that the oldest segments are given up,
	// with a gap on record, and a new base backup is made as soon as it can. 0: nothing is ever given up.
	QueueMax int `koanf:"queue_max"`
	// Commands for the server of a standby on this host.
	Standby StandbyConfig `koanf:"standby"`
}

// StandbyConfig has the commands of skyd wal standby create.
type StandbyConfig struct {
	// Shell command that starts the server, with PGDATA in the environment. Empty: it is not started.
	StartCmd string `koanf:"start_cmd"`
	// Shell command that stops the server before its directory is replaced. Empty: a server that runs is refused.
	StopCmd string `koanf:"stop_cmd"`
}

// DrillConfig configures restore drills.
type DrillConfig struct {
	// Time between two drills; 0: none are made.
	Every time.Duration `koanf:"every"`
	// Directory in which the cluster is restored, on a file system with room for it; it is removed afterwards. Empty: below
	// state_dir.
	Dir string `koanf:"dir"`
	// Directory of the server's programs. Empty: the places where packages put the cluster's version.
	BinDir string `koanf:"bin_dir"`
	// Limit of one drill.
	Timeout time.Duration `koanf:"timeout"`
}

// ReceiveConfig configures the receiver.
type ReceiveConfig struct {
	// Receive WAL. The role of the database needs the attribute replication.
	Enabled bool `koanf:"enabled"`
	// Replication slot; made if it is missing. Empty: none, and the server may remove WAL that was not received.
	Slot string `koanf:"slot"`
	// Name of the receiver for synchronous_standby_names.
	ApplicationName string `koanf:"application_name"`
	// What the server is told as flushed: local (durable in state_dir) or repo (durable in the repository). On the host of
	// the database only repo protects from the loss of the host.
	Feedback string `koanf:"feedback"`
	// How often the open segment is stored: what is lost at most when this host and the server are lost together.
	PartialInterval time.Duration `koanf:"partial_interval"`
}

// BackupConfig configures scheduled backups.
type BackupConfig struct {
	// Time between two backups; 0: none are made. The first one is full, the others incremental.
	Every time.Duration `koanf:"every"`
	// Time between two full backups; 0: the first one only.
	FullEvery time.Duration `koanf:"full_every"`
	// How many blocks are compressed at the same time.
	Jobs int `koanf:"jobs"`
	// Limit in kilobytes per second on what is read from the server; 0: none.
	Rate int `koanf:"rate"`
	// Refuse unless the server is a primary or a standby. Empty: either.
	From string `koanf:"from"`
}

// ExpireConfig configures what stays.
type ExpireConfig struct {
	// Number of newest good backups; 0: no rule.
	Keep int `koanf:"keep"`
	// How far back every moment stays restorable; 0: no rule.
	Window time.Duration `koanf:"window"`
	// Number of good backups that stay in any case.
	Min int `koanf:"min"`
}

// Rule is the configured retention.
func (c ExpireConfig) Rule() Retention { return Retention{Keep: c.Keep, Window: c.Window, Min: c.Min} }

// HooksConfig names shell commands that are run at certain moments, with SKYD_SOURCE in the environment.
type HooksConfig struct {
	// Before backups and WAL are removed; a failure keeps everything. SKYD_BACKUPS has the ids that are to go.
	BeforeExpire string `koanf:"before_expire"`
	// After a base backup is complete. SKYD_BACKUP has its id.
	AfterBackup string `koanf:"after_backup"`
	// When a gap is put on record. SKYD_GAP_TIMELINE, SKYD_GAP_FROM, SKYD_GAP_TO (0/0: not known yet) and SKYD_GAP_REASON.
	OnGap string `koanf:"on_gap"`
}

// PeriodicConfig configures a command that is run again and again.
type PeriodicConfig struct {
	// Shell command, with SKYD_SOURCE and SKYD_LAST_WAL (the newest archived segment) in the environment. Empty: none.
	Cmd string `koanf:"cmd"`
	// Time between two runs.
	Interval time.Duration `koanf:"interval"`
	// Limit of one run; then the command is killed.
	Timeout time.Duration `koanf:"timeout"`
}

// FetchConfig configures fetch.
type FetchConfig struct {
	// How long recovery waits for a storage that is away, before it stops (and can be started again).
	Patience time.Duration `koanf:"patience"`
	// How many segments are fetched ahead; 0: none.
	Prefetch int `koanf:"prefetch"`
}

// Encryption configures the encryption of a repository. The zero value: none.
type Encryption struct {
	// Public keys (age1...) that can open what is written from now on. Empty: objects are not encrypted.
	Recipients []string `koanf:"recipients"`
	// File with the secret age keys that open the objects, old ones too as long as something is encrypted for them. Not needed
	// on a host that only writes.
	IdentityFile string `koanf:"identity_file"`
	// File with the key of the tags by which encrypted objects are compared without being opened; setup makes it. The
	// same one on all hosts that write.
	TagKeyFile string `koanf:"tag_key_file"`
}

// DefaultConfig is the only place of the defaults.
func DefaultConfig() Config {
	return Config{
		Compression: string(Zstd), Workers: 2,
		Fetch:    FetchConfig{Patience: 10 * time.Minute, Prefetch: 8},
		Receive:  ReceiveConfig{Slot: "skyd_wal", ApplicationName: "skyd_wal", Feedback: FeedbackLocal, PartialInterval: time.Second},
		Backup:   BackupConfig{Jobs: 2},
		Expire:   ExpireConfig{Min: 1},
		Drill:    DrillConfig{Timeout: 6 * time.Hour},
		Periodic: PeriodicConfig{Interval: time.Hour, Timeout: 10 * time.Minute},
	}
}

// Fault is one thing that is wrong with a Config.
type Fault struct {
	Key     string
	Problem string
}

// sourceRule is what the name of a source may look like: it is a directory and a label.
var sourceRule = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$`)

// Validate returns everything that is wrong.
func (c Config) Validate() (faults []Fault) {
	add := func(key, problem string) { faults = append(faults, Fault{key, problem}) }
	if !sourceRule.MatchString(c.Source) {
		add("source", cmp.Or(c.Source, "nothing")+" is no name: letters, digits, _ . and - (at most 63)")
	}
	if !filepath.IsAbs(c.PGData) {
		add("pgdata", "must be the absolute path of the data directory")
	}
	if u, err := url.Parse(c.Storage); err != nil || u.Scheme == "" {
		add("storage", "must be a URL like file:///var/lib/skyd/wal")
	}
	for i, text := range c.Storages {
		at := fmt.Sprintf("storages[%d]", i)
		if u, err := url.Parse(text); err != nil || u.Scheme == "" {
			add(at, "must be a URL like file:///var/lib/skyd/wal")
		} else if text == c.Storage || slices.Contains(c.Storages[:i], text) {
			add(at, "is there already")
		}
	}
	if c.Compression != string(Zstd) && c.Compression != string(None) {
		add("compression", "must be zstd or none")
	}
	for _, p := range [][2]string{
		{"state_dir", c.StateDir},
		{"socket", c.Socket},
		{"drill.dir", c.Drill.Dir},
		{"drill.bin_dir", c.Drill.BinDir},
		{"encryption.identity_file", c.Encryption.IdentityFile},
		{"encryption.tag_key_file", c.Encryption.TagKeyFile},
	} {
		if p[1] != "" && !filepath.IsAbs(p[1]) {
			add(p[0], "must be an absolute path")
		}
	}
	if len(c.Socket) > 100 {
		add("socket", "is longer than the 100 bytes that a unix socket's path may have")
	}
	if c.Workers < 1 || c.Workers > 64 {
		add("workers", "must be between 1 and 64")
	}
	if c.Fetch.Patience < 0 || c.Fetch.Patience > 24*time.Hour {
		add("fetch.patience", "must be between 0 and 24h")
	}
	if c.Fetch.Prefetch < 0 || c.Fetch.Prefetch > 1024 {
		add("fetch.prefetch", "must be between 0 and 1024")
	}
	faults = append(faults, c.validateBackups()...)
	faults = append(faults, c.validateKeeping()...)
	if len(c.Encryption.Recipients) == 0 && c.Encryption.IdentityFile != "" {
		add("encryption.recipients", "is missing: whose keys may open what is written")
	}
	for _, r := range c.Encryption.Recipients {
		if !strings.HasPrefix(r, "age1") {
			add("encryption.recipients", "must be age public keys (age1...)")
		}
	}
	return faults
}

// Options are the options of the configured repository.
func (c Config) Options() RepoOptions {
	return RepoOptions{Compression: Compression(c.Compression), Encryption: c.Encryption, Hooks: c.Hooks}
}

// slotRule is what PostgreSQL takes as the name of a slot.
var slotRule = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

// validateBackups checks receiving, backups and what stays.
func (c Config) validateBackups() (faults []Fault) {
	add := func(key, problem string) { faults = append(faults, Fault{key, problem}) }
	if c.Receive.Slot != "" && !slotRule.MatchString(c.Receive.Slot) {
		add("receive.slot", "must have lower-case letters, digits and _ only (at most 63)")
	}
	if c.Receive.Feedback != FeedbackLocal && c.Receive.Feedback != FeedbackRepo {
		add("receive.feedback", "must be local or repo")
	}
	if c.Receive.PartialInterval < 10*time.Millisecond || c.Receive.PartialInterval > time.Hour {
		add("receive.partial_interval", "must be between 10ms and 1h")
	}
	if (c.Receive.Enabled || c.Backup.Every > 0) && c.Database == "" {
		add("database", "is missing: where to receive from and what to back up")
	}
	if c.Backup.Every != 0 && c.Backup.Every < time.Minute {
		add("backup.every", "must be 0 (none) or at least 1m")
	}
	if c.Backup.FullEvery != 0 && c.Backup.FullEvery < c.Backup.Every {
		add("backup.full_every", "must be 0 (the first one only) or at least backup.every")
	}
	if c.Backup.Jobs < 1 || c.Backup.Jobs > 64 {
		add("backup.jobs", "must be between 1 and 64")
	}
	if c.Backup.Rate < 0 || c.Backup.Rate > 0 && c.Backup.Rate < 32 || c.Backup.Rate > 1<<20 {
		add("backup.rate", "must be 0 (no limit) or between 32 and 1048576")
	}
	if c.Expire.Keep < 0 || c.Expire.Window < 0 || c.Expire.Min < 0 {
		add("expire", "must not be negative")
	}
	return faults
}

// validateKeeping checks drills, the periodic command and what may be given up.
func (c Config) validateKeeping() (faults []Fault) {
	add := func(key, problem string) { faults = append(faults, Fault{key, problem}) }
	if c.Drill.Every != 0 && c.Drill.Every < time.Minute {
		add("drill.every", "must be 0 (none) or at least 1m")
	}
	if c.Drill.Timeout < time.Minute {
		add("drill.timeout", "must be at least 1m")
	}
	if c.Periodic.Interval < time.Second {
		add("periodic.interval", "must be at least 1s")
	}
	if c.Periodic.Timeout < time.Second {
		add("periodic.timeout", "must be at least 1s")
	}
	if c.QueueMax < 0 || c.QueueMax > 0 && c.QueueMax < 1<<20 {
		add("queue_max", "must be 0 (nothing is given up) or at least 1048576 bytes")
	}
	if c.QueueMax > 0 && c.Backup.Every == 0 {
		add("queue_max", "needs backup.every: what is given up makes a new base backup necessary")
	}
	if c.Backup.From != "" && c.Backup.From != "primary" && c.Backup.From != "standby" {
		add("backup.from", "must be primary, standby or nothing")
	}
	return faults
}
