package main

import (
	"os"
	"path/filepath"
	"strings"
)

// Each proxy is set up as its manual advises for much traffic: connections to
// the backend are kept, nothing is logged, and no limit of calls a connection
// cuts a measurement. HTTP/1.1 stays HTTP/1.1 and h2c stays h2c.

// nginx takes HTTP/2 by a flag of listen, which later versions call deprecated
// but still know; the directive that follows it is unknown to older ones.
const nginxConfig = `daemon off;
worker_processes 2;
pid DIR/nginx.pid;
error_log stderr error;
worker_rlimit_nofile 16384;
events { worker_connections 16384; }
http {
	access_log off;
	ssl_certificate PEM;
	ssl_certificate_key PEM;
	keepalive_timeout 5m;
	client_max_body_size 0;
	client_body_buffer_size 2m;
	proxy_buffers 8 256k;
	tcp_nodelay on;
	client_body_temp_path DIR/nginx-body;
	proxy_temp_path DIR/nginx-proxy;
	fastcgi_temp_path DIR/nginx-fastcgi;
	uwsgi_temp_path DIR/nginx-uwsgi;
	scgi_temp_path DIR/nginx-scgi;
	keepalive_requests 1000000000;
	upstream h1 { server BACKEND; keepalive 512; keepalive_requests 1000000000; }
	upstream h2 { server BACKEND; keepalive 512; keepalive_requests 1000000000; }
	server {
		listen H1;
		proxy_http_version 1.1;
		proxy_set_header Connection "";
		location / { proxy_pass http://h1; }
		location STREAM { proxy_pass http://h1; proxy_buffering off; }
	}
	server {
		listen H2 http2;
		location / { grpc_pass grpc://h2; }
	}
}
`

const haproxyConfig = `global
	maxconn 16384
	no strict-limits
defaults
	mode http
	http-reuse always
	timeout connect 1s
	timeout client 5m
	timeout server 5m
frontend h1
	bind H1
	default_backend h1
frontend h2
	bind H2 proto h2
	default_backend h2
backend h1
	server backend BACKEND
backend h2
	server backend BACKEND proto h2
`

const caddyConfig = `{
	admin off
	auto_https off
	log {
		level ERROR
	}
	servers {
		protocols h1 h2c
	}
}
http://H1 {
	reverse_proxy BACKEND {
		transport http {
			versions 1.1
			compression off
			keepalive_idle_conns_per_host 512
		}
	}
}
http://H2 {
	reverse_proxy BACKEND {
		transport http {
			versions h2c
			compression off
		}
	}
}
`

func nginxArgs(dir string, p ports) ([]string, error) {
	if p.secure {
		p.h1 += " ssl"
		p.h2 += " ssl"
	}
	file, err := writeConfig(dir, "nginx.conf", nginxConfig, p)
	return []string{"-p", dir, "-e", "stderr", "-c", file}, err
}

func haproxyArgs(dir string, p ports) ([]string, error) {
	if p.secure {
		p.h1 += " ssl crt " + p.pem + " alpn http/1.1"
		p.h2 += " ssl crt " + p.pem + " alpn h2"
	}
	file, err := writeConfig(dir, "haproxy.cfg", haproxyConfig, p)
	return []string{"-db", "-q", "-f", file}, err
}

func caddyArgs(dir string, p ports) ([]string, error) {
	file, err := writeConfig(dir, "Caddyfile", caddyConfig, p)
	return []string{"run", "--adapter", "caddyfile", "--config", file}, err
}

func writeConfig(dir, name, config string, p ports) (string, error) {
	file := filepath.Join(dir, name)
	config = strings.NewReplacer("DIR", dir, "BACKEND", p.backend, "H1", p.h1, "H2", p.h2, "PEM", p.pem, "STREAM", streamProcedure).Replace(config)
	return file, os.WriteFile(file, []byte(config), 0o600)
}
