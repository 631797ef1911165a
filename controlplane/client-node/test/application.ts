// What a mediasoup application writes, in types: compiled by the test of the types, never run.

import * as mediasoup from '@ironcast/client';
import type { types } from '@ironcast/client';

export class Peer {
  readonly consumers = new Map<string, types.Consumer>();
  transport?: types.WebRtcTransport;

  constructor(readonly router: types.Router, readonly rtpCapabilities: types.RtpCapabilities) {
    router.on('workerclose', () => this.consumers.clear());
    router.observer.on('newtransport', (transport) => {
      if (transport.type === 'webrtc') transport.on('icestatechange', (state) => void (state === 'disconnected'));
    });
  }

  async open(dtlsParameters: types.DtlsParameters): Promise<types.IceParameters> {
    this.transport = await this.router.createWebRtcTransport({ listenIps: ['0.0.0.0'], enableUdp: true, appData: { direction: 'receive' } });
    this.transport.on('dtlsstatechange', (state: types.DtlsState) => {
      if (state === 'closed') this.transport?.close();
    });
    await this.transport.connect({ dtlsParameters });
    return this.transport.iceParameters;
  }

  async send(kind: types.MediaKind, rtpParameters: types.RtpParameters): Promise<string> {
    const producer = await this.transport!.produce({ kind, rtpParameters, paused: false });
    producer.on('score', (score: types.ProducerScore[]) => console.log(score[0]?.score));
    producer.observer.once('close', () => {});
    return producer.id;
  }

  async receive(producerId: string): Promise<void> {
    if (!(await this.router.canConsume({ producerId, rtpCapabilities: this.rtpCapabilities }))) return;
    const consumer = await this.transport!.consume({ producerId, rtpCapabilities: this.rtpCapabilities, paused: true });
    this.consumers.set(consumer.id, consumer);
    consumer.on('producerclose', () => this.consumers.delete(consumer.id));
    consumer.on('layerschange', (layers?: types.ConsumerLayers) => console.log(layers?.spatialLayer));
    // @ts-expect-error: there is no such event
    consumer.on('producerclosed', () => {});
    // @ts-expect-error: a promise is always true
    if (this.router.canConsume({ producerId, rtpCapabilities: this.rtpCapabilities })) return;
    await consumer.setPreferredLayers({ spatialLayer: 1, temporalLayer: 2 });
    await consumer.resume();
  }
}

export async function main(): Promise<mediasoup.Worker> {
  const worker = await mediasoup.createWorker({ url: 'https://127.0.0.1:7443', appData: { host: 1 } });
  worker.on('workerdied', ({ routerIds }) => console.log(routerIds.length));
  worker.observer.on('newrouter', (router: types.Router) => console.log(router.id));
  await worker.createRouter({ mediaCodecs: [{ kind: 'audio', mimeType: 'audio/opus', clockRate: 48000, channels: 2 }] });
  try {
    await worker.findRouter('room-7');
  } catch (error) {
    if (!(error instanceof mediasoup.errors.NotFoundError)) throw error;
    console.log(error.code, error.status);
  }
  return worker;
}
