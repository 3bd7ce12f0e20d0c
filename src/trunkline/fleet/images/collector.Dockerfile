# The collector: the Python of a base image, Trunkline, and what it needs at run time. No shell is used, here or later.
# `trunkline images build` lays out the folder that this is built from.
ARG BASE
FROM ${BASE}
ARG WHEEL_PYTHON
ARG VERSION
LABEL org.opencontainers.image.title="trunkline-collector" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 0:0
COPY opt /opt/trunkline
COPY collector.yaml /etc/trunkline/collector.yaml
ENV PYTHONPATH=/opt/trunkline PYTHONSAFEPATH=1
# Proves that this base can run it, and makes the command `trunkline` and the data folder.
RUN ["python3", "/opt/trunkline/trunkline/fleet/images/finish.py", "collector"]
USER 10001:10001
WORKDIR /
# What waits to be sent. Declared, so that it is writable for this user where the root file system is not.
VOLUME ["/var/lib/trunkline"]
ENTRYPOINT ["trunkline", "collector", "run"]
# AOT_CONFIG_CONTENT, where it is set, replaces this configuration.
CMD ["--config", "/etc/trunkline/collector.yaml"]
