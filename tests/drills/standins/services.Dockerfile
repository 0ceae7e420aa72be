# Stand in for the images of docker-compose.fleet.yml: each target for one. Users, folders and entry points are theirs.
FROM standin-services:12 AS envoy
COPY envoy /usr/local/bin/envoy
RUN mkdir -p /etc/envoy
CMD ["envoy", "-c", "/etc/envoy/envoy.yaml"]

FROM standin-services:12 AS redis
VOLUME /data
WORKDIR /data
CMD ["redis-server"]

FROM standin-services:12 AS prometheus
RUN mkdir -p /prometheus && chown nobody:nogroup /prometheus
USER nobody
VOLUME /prometheus
WORKDIR /prometheus
ENTRYPOINT ["/usr/bin/prometheus"]
