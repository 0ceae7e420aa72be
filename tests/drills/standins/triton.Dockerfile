# Stands in for nvcr.io/nvidia/tritonserver:26.11-py3.
FROM standin-debian:12
RUN useradd --uid 1000 --create-home triton-server
COPY etc /etc
COPY opt /opt
RUN chmod -R a+rX /opt && chmod 0755 /opt/nvidia/nvidia_entrypoint.sh /opt/tritonserver/bin/*
ENV LD_LIBRARY_PATH=/opt/tritonserver/lib \
    PATH=/opt/tritonserver/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ENTRYPOINT ["/opt/nvidia/nvidia_entrypoint.sh"]
