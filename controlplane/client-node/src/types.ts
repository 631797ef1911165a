// The types that callers write down: the API's own, by mediasoup's names where they have another.

export type {
  ConsumerLayers, ConsumerScore, ConsumerType, DrainStatus, DtlsFingerprint, DtlsParameters, DtlsRole, DtlsState,
  ErrorCode, Health, IceCandidate, IceParameters, IceRole, IceState, MediaKind, ProducerScore, ProducerType,
  RtcpFeedback, RtcpParameters, RtpCapabilities, RtpCodecCapability, RtpCodecParameters, RtpEncodingParameters,
  RtpHeaderExtension, RtpHeaderExtensionParameters, RtpParameters, RtpStreamStats, SrtpCryptoSuite, SrtpParameters,
  TransportTuple, WorkerInfo,
} from './openapi.js';
export type {
  ObserverInfo, ProducerInfo, ConsumerInfo, TransportInfo, RouterInfo,
  RtpStreamStats as ProducerStat, RtpStreamStats as ConsumerStat,
} from './openapi.js';
export type { ClientOptions } from './options.js';
export type { Code } from './errors.js';
export type { ClosedReason } from './resource.js';
export type { ServerEvent } from './stream.js';
export type { Seq } from './seq.js';
export type { CreateWorkerOptions, RouterOptions, Worker, WorkerEvents } from './worker.js';
export type {
  PipeToRouterOptions, PipeToRouterResult, Router, RouterEvents, RouterDump, WebRtcTransportOptions,
} from './router.js';
export type {
  ConsumerOptions, ProducerOptions, WebRtcTransport, WebRtcTransportEvents, WebRtcTransportInfo, WebRtcTransportStat,
} from './transport.js';
export type {
  PlainTransport, PlainTransportEvents, PlainTransportInfo, PlainTransportOptions, PlainTransportStat,
} from './plaintransport.js';
export type { PipeTransport, PipeTransportInfo, PipeTransportOptions, PipeTransportStat } from './pipetransport.js';
import type { PipeTransport } from './pipetransport.js';
import type { PlainTransport } from './plaintransport.js';
import type { WebRtcTransport } from './transport.js';

export type Transport = WebRtcTransport | PlainTransport | PipeTransport;
export type { Producer, ProducerEvents, ProducerVideoOrientation } from './producer.js';
export type { Consumer, ConsumerEvents } from './consumer.js';
export type {
  ActiveSpeakerObserver, ActiveSpeakerObserverDominantSpeaker, ActiveSpeakerObserverEvents, ActiveSpeakerObserverOptions,
  AudioLevelObserver, AudioLevelObserverEvents, AudioLevelObserverOptions, AudioLevelObserverVolume, RtpObserver,
} from './rtpobserver.js';

/** The caller's own data. It is sent to the server as JSON, at most 8 KiB. */
export type AppData = Record<string, unknown>;
