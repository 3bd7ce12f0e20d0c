# The demo application: a small web shop with metrics on port 8000. Built as the collector's image is.
ARG BASE
FROM ${BASE}
ARG WHEEL_PYTHON
ARG VERSION
LABEL org.opencontainers.image.title="trunkline-demo-application" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 0:0
COPY opt /opt/trunkline
ENV PYTHONPATH=/opt/trunkline PYTHONSAFEPATH=1
RUN ["python3", "/opt/trunkline/trunkline/fleet/images/finish.py", "application"]
USER 10001:10001
WORKDIR /
EXPOSE 8000
ENTRYPOINT ["python3", "-m", "trunkline.simulator.demo_application"]
