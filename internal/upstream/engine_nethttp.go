//go:build nethttp

package upstream

const defaultEngine = NetHTTP
