# Stands in for python:3.12-slim-bookworm.
FROM standin-debian:12
COPY etc /etc
COPY local /usr/local
RUN ldconfig
CMD ["python3"]
