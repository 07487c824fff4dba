package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// redisConn asks Redis for numbers, in inline commands.
type redisConn struct {
	conn net.Conn
	in   *bufio.Reader
}

// dialRedis waits for a Redis that starts.
func dialRedis(ctx context.Context, socket string) (*redisConn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "unix", socket)
		if err == nil {
			return &redisConn{conn, bufio.NewReader(conn)}, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(time.Millisecond):
		}
	}
}

// do returns the number that is answered, 0 for OK.
func (c *redisConn) do(command string) (int, error) {
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	if _, err := c.conn.Write([]byte(command + "\r\n")); err != nil {
		return 0, err
	}
	line, err := c.in.ReadString('\n')
	if err != nil || line == "+OK\r\n" {
		return 0, err
	}
	number, ok := strings.CutPrefix(line, ":")
	n, err := strconv.Atoi(strings.TrimSpace(number))
	if !ok || err != nil {
		return 0, fmt.Errorf("redis, %s: %q", command, line)
	}
	return n, nil
}

// forget deletes all keys of a pattern.
func (c *redisConn) forget(pattern string) error {
	_, err := c.do(`EVAL "for _, key in ipairs(redis.call('KEYS', '` + pattern + `')) do redis.call('DEL', key) end return 0" 0`)
	return err
}
