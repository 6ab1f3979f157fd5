package walarchive

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// SlotStatus is a replication slot as its server sees it.
type SlotStatus struct {
	Name   string `json:"name"`
	Active bool   `json:"active"`
	// WALStatus is reserved, extended, unreserved or lost.
	WALStatus string `json:"wal_status"`
	// SafeBytes may be written until the server removes WAL that the slot needs; -1: it never does.
	SafeBytes int64 `json:"safe_wal_size"`
	// KeptBytes is the WAL that the slot holds back.
	KeptBytes int64 `json:"kept_bytes"`
}

// ReadSlotStatus asks a server for a slot. ErrNotFound.
func ReadSlotStatus(ctx context.Context, s Server, name string) (SlotStatus, error) {
	st := SlotStatus{Name: name}
	err := s.QueryRow(ctx, `
		select active, coalesce(wal_status, ''), coalesce(safe_wal_size, -1),
			coalesce(pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end, restart_lsn), 0)::int8
		from pg_replication_slots where slot_name = $1`, name).Scan(&st.Active, &st.WALStatus, &st.SafeBytes, &st.KeptBytes)
	if errors.Is(err, pgx.ErrNoRows) {
		return st, fmt.Errorf("replication slot %s: %w", name, ErrNotFound)
	}
	return st, err
}

// PlanSlot tells whether the slot of a receiver must be made, and that the server permits what a receiver needs. ErrUnfit.
func PlanSlot(ctx context.Context, s Server, slot string) (missing bool, err error) {
	var senders, slots, used int
	var there, may bool
	err = s.QueryRow(ctx, `
		select current_setting('max_wal_senders')::int, current_setting('max_replication_slots')::int,
			(select count(*)::int from pg_replication_slots), exists (select from pg_replication_slots where slot_name = $1),
			(select rolreplication or rolsuper from pg_roles where rolname = current_user)`, slot).Scan(&senders, &slots, &used, &there, &may)
	switch {
	case err != nil:
		return false, err
	case senders == 0:
		return false, fmt.Errorf("%w: max_wal_senders is 0: a receiver cannot connect; set it and restart the server", ErrUnfit)
	case !may:
		return false, fmt.Errorf("%w: the role has not the attribute replication: alter role ... replication", ErrUnfit)
	case slot != "" && !there && used >= slots:
		return false, fmt.Errorf("%w: all %d replication slots are in use (max_replication_slots)", ErrUnfit, slots)
	}
	return slot != "" && !there, nil
}

// MakeSlot makes a physical slot that keeps WAL from now on.
func MakeSlot(ctx context.Context, s Server, slot string) error {
	_, err := s.Exec(ctx, "select pg_create_physical_replication_slot($1, true)", slot)
	return err
}

// DropSlot drops a slot that nobody uses; false: it is not there. ErrRefused.
func DropSlot(ctx context.Context, s Server, slot string) (bool, error) {
	st, err := ReadSlotStatus(ctx, s, slot)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if st.Active {
		return false, fmt.Errorf("%w: replication slot %s is in use: stop the receiver first", ErrRefused, slot)
	}
	_, err = s.Exec(ctx, "select pg_drop_replication_slot($1)", slot)
	return err == nil, err
}
