package duckdb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"net/netip"

	duck "github.com/duckdb/duckdb-go/v2"
)

// within is sherd_within(address, network): whether a text is an address of the network. DuckDB's own type for addresses is in an
// extension, which a static program can't load.
type within struct{ text, truth duck.TypeInfo }

func register(ctx context.Context, db *sql.DB) error {
	text, err := duck.NewTypeInfo(duck.TYPE_VARCHAR)
	if err != nil {
		return err
	}
	truth, err := duck.NewTypeInfo(duck.TYPE_BOOLEAN)
	if err != nil {
		return err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return duck.RegisterScalarUDF(conn, "sherd_within", &within{text, truth})
}

// Config says what it takes and gives.
func (f *within) Config() duck.ScalarFuncConfig {
	return duck.ScalarFuncConfig{InputTypeInfos: []duck.TypeInfo{f.text, f.text}, ResultTypeInfo: f.truth}
}

// Executor is called for each row.
func (f *within) Executor() duck.ScalarFuncExecutor {
	return duck.ScalarFuncExecutor{RowExecutor: func(v []driver.Value) (any, error) {
		address, ok1 := v[0].(string)
		network, ok2 := v[1].(string)
		if !ok1 || !ok2 || address == "" {
			return false, nil
		}
		a, err := netip.ParseAddr(address)
		if err != nil {
			return false, nil //nolint:nilerr // a text that is no address is in no network
		}
		p, err := netip.ParsePrefix(network)
		if err != nil {
			return nil, err
		}
		return a.Zone() == "" && p.Contains(a), nil
	}}
}
