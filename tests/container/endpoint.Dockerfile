# The AWS endpoint of the container tests: ministack, on every address of its container. Context: requirements/.
ARG PYTHON_IMAGE=python:3.13-slim-trixie@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b
FROM ${PYTHON_IMAGE}
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
ARG PIP_DEFAULT_TIMEOUT
WORKDIR /endpoint
COPY local.txt ./
RUN pip install --no-cache-dir --root-user-action ignore --require-hashes -r local.txt
# MINISTACK_HOST is what queue URLs name: the alias of this container in the tests' network. Credentials are not
# checked, and nothing but the HTTP port is opened.
ENV AUTH=false \
    GATEWAY_PORT=4566 \
    MINISTACK_HOST=aws \
    USE_SSL=0 \
    IOT_MTLS_ENABLED=0 \
    SFTP_ENABLED=0 \
    LOG_LEVEL=WARNING
EXPOSE 4566
USER 10001:10001
CMD ["hypercorn", "--bind", "0.0.0.0:4566", "--keep-alive", "75", "ministack.app:app"]
