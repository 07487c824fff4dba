package cmd

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	gatewayv1 "holdline/gen/gateway/v1"
	"holdline/gen/gateway/v1/gatewayv1connect"
)

// Services is `holdline services`.
type Services struct {
	Remote
}

// Run lists services with their methods.
func (c *Services) Run(ctx context.Context, out io.Writer) error {
	list, err := gatewayv1connect.NewDirectoryServiceClient(c.connect()).ListServices(ctx, &gatewayv1.ListServicesRequest{})
	if err != nil {
		return c.fail(err)
	}
	if c.JSON {
		return printJSON(out, list)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "SERVICE\tSTATE\tSCHEMA\tUNDERSTANDS\tTRANSLATED\tMETHODS")
	for _, s := range list.GetServices() {
		methods := make([]string, len(s.GetMethods()))
		for i, m := range s.GetMethods() {
			methods[i] = m.GetName()
		}
		state := strings.ToLower(strings.TrimPrefix(s.GetState().String(), "SERVICE_STATE_"))
		schema := strings.ToLower(strings.TrimPrefix(s.GetSchemaSource().String(), "SCHEMA_SOURCE_"))
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", s.GetName(), state, schema, types(s.GetUnderstands()), types(s.GetTranslated()), strings.Join(methods, ", "))
	}
	return table.Flush()
}

// types are media types in short; "-" for none.
func types(all []string) string {
	if len(all) == 0 {
		return "-"
	}
	short := make([]string, len(all))
	for i, mediaType := range all {
		short[i] = strings.TrimPrefix(mediaType, "application/")
	}
	return strings.Join(short, ", ")
}
