package walarchive

import (
	"cmp"
	_ "embed" // the source is part of the reference
	"net/url"
	"path/filepath"
	"regexp"
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
	// Where the archive is: file:///directory or s3://bucket/prefix?endpoint=...&region=...
	Storage string `koanf:"storage"`
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
	// File with the secret age keys that open the objects. Not needed on a host that only writes.
	IdentityFile string `koanf:"identity_file"`
	// File with the key of the tags by which encrypted objects are compared without being opened; setup makes it. The
	// same one on all hosts that write.
	TagKeyFile string `koanf:"tag_key_file"`
}

// DefaultConfig is the only place of the defaults.
func DefaultConfig() Config {
	return Config{
		Compression: string(Zstd), Workers: 2,
		Fetch:   FetchConfig{Patience: 10 * time.Minute, Prefetch: 8},
		Receive: ReceiveConfig{Slot: "skyd_wal", ApplicationName: "skyd_wal", Feedback: FeedbackLocal, PartialInterval: time.Second},
		Backup:  BackupConfig{Jobs: 2},
		Expire:  ExpireConfig{Min: 1},
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
	if c.Compression != string(Zstd) && c.Compression != string(None) {
		add("compression", "must be zstd or none")
	}
	for _, p := range [][2]string{{"state_dir", c.StateDir}, {"socket", c.Socket},
		{"encryption.identity_file", c.Encryption.IdentityFile}, {"encryption.tag_key_file", c.Encryption.TagKeyFile}} {
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
	for _, r := range c.Encryption.Recipients {
		if !strings.HasPrefix(r, "age1") {
			add("encryption.recipients", "must be age public keys (age1...)")
		}
	}
	return faults
}

// Options are the options of the configured repository.
func (c Config) Options() RepoOptions {
	return RepoOptions{Compression: Compression(c.Compression), Encryption: c.Encryption}
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
