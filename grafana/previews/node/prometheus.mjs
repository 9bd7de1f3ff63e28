// The few calls of Prometheus' HTTP API that a dashboard needs.

export class Prometheus {
  constructor(url) {
    this.url = url.replace(/\/$/, '');
  }

  async #get(path, parameters) {
    const response = await fetch(`${this.url}/api/v1/${path}`, {
      method: 'POST',
      body: new URLSearchParams(parameters),
    });
    const answer = await response.json();
    if (answer.status !== 'success') throw new Error(`${path}: ${answer.error ?? response.status}`);
    return answer.data;
  }

  instant(query, time) {
    return this.#get('query', { query, time });
  }

  range(query, start, end, step) {
    return this.#get('query_range', { query, start, end, step });
  }

  exemplars(query, start, end) {
    return this.#get('query_exemplars', { query, start, end });
  }

  /** The values of a label, of all series or of those that a selector matches. */
  async labelValues(label, match, start, end) {
    const response = await fetch(
      `${this.url}/api/v1/label/${label}/values?${new URLSearchParams({ start, end, ...(match ? { 'match[]': match } : {}) })}`,
    );
    return (await response.json()).data ?? [];
  }
}
